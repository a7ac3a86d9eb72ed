"""Whatever documents, servers and the environment call things stays text in a report."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

from dynaq.data.snapshot import Snapshot
from dynaq.evaluation.report.page import page
from dynaq.evaluation.report.report import render_markdown
from tests.evaluation.a_night import configured, night_of
from tests.evaluation.hand_made import study

HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(2)> [here](javascript:alert(3)) ![x](http://example.invalid/x)"
    ' <http://example.invalid> **bold** `code` | " onload="alert(4)\n\n# heading\n\n<iframe src="//example.invalid">'
)


class Found(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))


def test_hostile_names_make_no_tags(small_snapshot: Snapshot) -> None:
    names = {HOSTILE: 3}
    manifest = small_snapshot.manifest.model_copy(update={"encoders": {"jobs": names, "applicants": names}})
    night = night_of(study({"cosine": 0.05}), manifest, configured(name=HOSTILE))
    night = dataclasses.replace(
        night,
        manifest=manifest.model_copy(update={"quarantined": {HOSTILE: names}}),
        label_source=HOSTILE,
        label_cost={HOSTILE: 3},
        account=HOSTILE,
        audit=HOSTILE,
        champion=HOSTILE,
        missing=names,
        relevance={HOSTILE: next(iter(night.relevance.values()))},
    )
    rendered = Found(page(render_markdown(night, {}), night.config.name, {}))
    assert {tag for tag, _ in rendered.tags}.isdisjoint({"script", "iframe", "object", "embed", "form", "base"})
    assert [given for _, given in rendered.tags if any(name.startswith("on") for name in given)] == []
    addresses = [given[name] for _, given in rendered.tags for name in ("href", "src", "srcset") if name in given]
    assert len(addresses) > 5
    assert [address for address in addresses if not address.startswith(("data:", "#"))] == []
