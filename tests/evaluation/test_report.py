"""The report says what the figures allow, warns where it must, and is one file that needs nothing else."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dynaq.agents.arms import WarmStart
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.evaluation.metrics import Curve
from dynaq.evaluation.report import Night, render_markdown, verdict, write_report
from dynaq.evaluation.similarity import SimilarityReached
from dynaq.evaluation.summary import Comparison, summarise
from tests.evaluation.hand_made import STEPS, online_runs, references
from tests.paths import ROOT

NAME = "night <script>alert(1)</script> & day"
MLFLOW = "http://mlflow.internal:5000"


def configured(**overrides: object) -> Config:
    given = {"name": NAME, "compare.steps": STEPS, "compare.window": 2, "tracking.uri": MLFLOW, **overrides}
    return load_config(ROOT / "configs" / "real.yaml", given)


def compared(gains: Mapping[WarmStart, float], config: Config) -> Comparison:
    runs = online_runs(gains, config.agent.gamma) + online_runs({}, 0.0)
    return summarise(runs, references(), config.compare)


@pytest.fixture(scope="module")
def night(small_snapshot: Snapshot) -> Night:
    config = configured()
    comparison = compared({"cosine": 0.2, "hybrid": 0.3}, config)
    curves: dict[str, Curve] = {arm.agent: arm.curve for arm in comparison.of(config.agent.gamma)}
    return Night(
        config=config,
        manifest=small_snapshot.manifest.model_copy(update={"quarantined": {"all_jobs": {"zero vector": 3}}}),
        comparison=comparison,
        similarity=[SimilarityReached(best=0.8, trained=0.72, untrained=0.2, random=0.1, applicants=18)],
        training={"TD loss": curves},
        label_source="gpt-4o-mini",
        label_cost={"calls": 1234, "labels_used": 406},
        account="406 labels (94 left), 120,000 tokens",
        audit="Only 0.20 instead of 0.4.",
        trusted=False,
        seconds={"pretrain": 12.4},
    )


@pytest.fixture(scope="module")
def directory(night: Night, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    assert write_report(night, directory) == directory / "report.html"
    return directory


class Page(HTMLParser):
    """Tags, and whatever a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attributes if name in {"src", "srcset", "href", "data"}]


@pytest.fixture(scope="module")
def page(directory: Path) -> Page:
    return Page((directory / "report.html").read_text(encoding="utf-8"))


def test_the_page_holds_its_figures_and_fetches_nothing(page: Page, directory: Path) -> None:
    figures = [directory / "learning_curves.png", directory / "training_curves.png"]
    assert page.tags.count("img") == 2
    assert [base64.b64decode(address.removeprefix("data:image/png;base64,")) for address in page.fetched] == [
        figure.read_bytes() for figure in figures
    ]
    html = (directory / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", html)


def test_names_are_text_and_no_markup(page: Page, directory: Path) -> None:
    assert "script" not in page.tags
    html = (directory / "report.html").read_text(encoding="utf-8")
    assert html.count("night &lt;script&gt;alert(1)&lt;/script&gt; &amp; day") == 2  # title and heading


def test_a_name_cannot_call_for_an_outside_resource(night: Night, tmp_path: Path) -> None:
    named = configured(name="![x](http://example.invalid/x.png)")
    write_report(dataclasses.replace(night, config=named), tmp_path)
    fetched = Page((tmp_path / "report.html").read_text(encoding="utf-8")).fetched
    assert {address.split(",")[0] for address in fetched} == {"data:image/png;base64"}


def test_the_configuration_beside_it_repeats_the_night(night: Night, directory: Path) -> None:
    again = load_config(directory / "config.yaml")
    assert again.tracking.uri is None  # where MLflow lives is nobody's business
    assert again.model_dump(exclude={"tracking": {"uri"}}) == night.config.model_dump(exclude={"tracking": {"uri"}})
    assert not any(b"mlflow.internal" in path.read_bytes() for path in directory.iterdir())


def test_figures_costs_and_provenance_are_told(night: Night, directory: Path) -> None:
    text = (directory / "report.md").read_text(encoding="utf-8")
    assert re.search(r"\| cosine \| 0\.450 \[.*\| \+0\.200 \[\+0\.182, \+0\.218\] \| 0 \|", text)
    assert re.search(r"\| baseline \| 0\.250 \[.*\|  \| 0 \|", text)
    for told in (
        "trained 0.900",
        "untrained network\n0.250",
        "calls: 1,234",
        "gpt-4o-mini",
        night.manifest.digest[:16],
        "60 applicants, 80 jobs",
        "3 of all_jobs (zero vector)",
        "(hard_skills, skills), (hard_skills, title)",
        "pretrain 12",
    ):
        assert told in text


@pytest.mark.parametrize("generated", [0, 60])
@pytest.mark.parametrize("source", ["rule-sim-v1", "gpt-4o-mini"])
def test_warnings_are_there_exactly_when_they_apply(night: Night, generated: int, source: str) -> None:
    manifest = night.manifest.model_copy(update={"generated": {"applicants": generated, "jobs": 0}})
    text = render_markdown(dataclasses.replace(night, manifest=manifest, label_source=source))
    assert ("are **generated**" in text) == (generated > 0)
    assert ("rule-based stand-in" in text) == (source == "rule-sim-v1")


def test_without_a_discount_there_is_one_table(night: Night) -> None:
    config = configured(**{"agent.gamma": 0})
    text = render_markdown(dataclasses.replace(night, config=config, comparison=compared({}, config)))
    assert render_markdown(night).count("| agent |") == 2
    assert text.count("| agent |") == 1


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ({"cosine": 0.2}, "cosine is the one warm start that pays: cosine +0.200 [+0.182, +0.218]."),
        (
            {"cosine": 0.2, "hybrid": 0.3},
            "hybrid pays most, +0.100 [+0.100, +0.100] ahead of cosine:"
            " hybrid +0.300 [+0.282, +0.318], cosine +0.200 [+0.182, +0.218].",
        ),
        (
            {"cosine": 0.2, "llm": 0.2},
            "cosine and llm cannot be told apart at the top, +0.000 [+0.000, +0.000] between them:"
            " cosine +0.200 [+0.182, +0.218], llm +0.200 [+0.182, +0.218].",
        ),
        ({"cosine": 0.01}, "No warm start is better than none here."),
        (
            {"llm": -0.05},
            "No warm start is better than none here. Worse than none: llm -0.050 [-0.068, -0.032].",
        ),
        (
            {"cosine": 0.2, "llm": -0.05},
            "cosine is the one warm start that pays: cosine +0.200 [+0.182, +0.218]."
            " Worse than none: llm -0.050 [-0.068, -0.032].",
        ),
    ],
)
def test_the_verdict_says_what_the_intervals_allow(gains: Mapping[WarmStart, float], said: str) -> None:
    config = configured()
    assert verdict(compared(gains, config), config.agent.gamma) == said
