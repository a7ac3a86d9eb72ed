"""The report says what the figures allow, warns where it must, and is one file that needs nothing else."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.evaluation.report.figures import figures_json
from dynaq.evaluation.report.lineup import four, panels
from dynaq.evaluation.report.night import Night
from dynaq.evaluation.report.pictures import pictures
from dynaq.evaluation.report.plots import LIGHT, png
from dynaq.evaluation.report.report import render_markdown, write_report
from dynaq.evaluation.report.words import planning, verdict
from dynaq.evaluation.study.study import Study
from tests.evaluation.a_night import configured, night_of
from tests.evaluation.hand_made import GAMMA, study

GAINS = {"cosine": 0.05, "hybrid": 0.09, "hybrid, 1,000 labels": 0.085, "llm": 0.03, "popularity": -0.05}


@pytest.fixture(scope="module")
def night(small_snapshot: Snapshot) -> Night:
    return night_of(study(GAINS, levels=(0, 1)), small_snapshot.manifest)


@pytest.fixture(scope="module")
def directory(night: Night, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    assert write_report(night, directory) == directory / "report.html"
    return directory


@pytest.fixture(scope="module")
def text(directory: Path) -> str:
    return (directory / "report.md").read_text(encoding="utf-8")


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


def test_the_page_holds_its_figures_in_both_themes_and_fetches_nothing(page: Page, directory: Path) -> None:
    outside = [address for address in page.fetched if not address.startswith(("data:", "#"))]
    assert not outside
    images = [address for address in page.fetched if address.startswith("data:image/png;base64,")]
    light = {base64.b64decode(address.partition(",")[2]) for address in images[1::2]}  # after its dark source
    assert light == {path.read_bytes() for path in directory.glob("*.png")}
    assert len(set(images)) == len(images) == 2 * len(light)
    html = (directory / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|<script", html)
    assert len(html) < 2_500_000


def test_strange_names_stay_text(page: Page, directory: Path) -> None:
    html = (directory / "report.html").read_text(encoding="utf-8")
    assert "script" not in page.tags
    assert page.tags.count("img") == len(list(directory.glob("*.png")))
    assert html.count("night &lt;script&gt;alert(1)&lt;/script&gt; &amp; | day ![x](http") == 3  # title, heading, judge
    assert "<td>raw &#124; cosine</td>" in html  # one cell


def test_the_configuration_beside_it_repeats_the_night(night: Night, directory: Path) -> None:
    again = load_config(directory / "config.yaml")
    assert again.tracking.uri is None  # where MLflow lives is nobody's business
    assert again.model_dump(exclude={"tracking": {"uri"}}) == night.config.model_dump(exclude={"tracking": {"uri"}})
    assert not any(b"mlflow.internal" in path.read_bytes() for path in directory.iterdir())


def test_every_number_of_the_agents_is_told(night: Night, text: str) -> None:
    for row in four(night.study, GAMMA):
        estimates = [row.jump_start, row.average, row.middle, row.late, row.late_known, row.regret, *row.ndcg]
        differences = [each.difference for each in (row.gain, row.late_gain) if each]
        told = [f"{each.mean:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in estimates]
        told += [f"{each.mean:+.3f} [{each.low:+.3f}, {each.high:+.3f}]" for each in differences]
        told += [f"{row.cumulative.mean:.1f} [{row.cumulative.low:.1f}, {row.cumulative.high:.1f}]"]
        told += [f"{each.restricted_mean:.1f} | {100 * each.reached_share:.0f}%" for each in row.times.values()]
        told += [" | ".join(f"{each:,.0f}" for each in row.before.values())]
        lines = [line for line in text.splitlines() if line.startswith(f"| {row.contestant.kind} |")]
        missing = [each for each in told if not any(each in line for line in lines)]
        assert not missing


def test_controls_budgets_costs_and_provenance_are_told(night: Night, text: str) -> None:
    assert re.search(r"\| popularity \| 0 \| 0\.200 \[.*\| -0\.050 \[-0\.060, -0\.040\] \|", text)
    assert re.search(r"\| ranker \| 5,000 \|.*\| yes \|", text)
    assert re.search(r"\| hybrid \| 1,000 \| 310,000 \| 2,500 \| 0\.335 \[", text)
    for told in (
        "trained 0.900",
        "calls: 1,234",
        "gpt-4o-mini",
        night.manifest.digest[:16],
        "60 applicants, 80 jobs",
        "3 of all_jobs (zero vector)",
        "(hard_skills, skills), (hard_skills, title)",
        "given the mean: llm 37.",
        "version 3 of dynaq is the champion now: hybrid is +0.0300 ",
        "20 fresh markets, which are this checkpoint's alone:",
        "| 36 of 40 | 0.060 [0.050, 0.070] |",
        "| hybrid | gendered words swapped | none: no text has such a word |",
        "pretrain 12",
        "python -m flows nightly --config config.yaml",
    ):
        assert told in text


def test_the_map_tells_ties_and_shares_the_market_that_agrees_with_nobody(night: Night, text: str) -> None:
    assert "| 1 | **cosine** +0.080 [+0.070, +0.090] before baseline |" in text
    assert text.count("| 0 | tie: baseline +0.000 [-0.010, +0.010] before cosine |") == 2
    assert {len(cells) for cells in panels(night.study).values()} == {2 * 5}


@pytest.mark.parametrize("generated", [0, 60])
@pytest.mark.parametrize("source", ["rule-sim-v1", "gpt-4o-mini"])
@pytest.mark.parametrize("seeds", [5, 20])
def test_warnings_are_there_exactly_when_they_apply(night: Night, generated: int, source: str, seeds: int) -> None:
    manifest = night.manifest.model_copy(update={"generated": {"applicants": generated, "jobs": 0}})
    small = dataclasses.replace(night.study, seeds=seeds)
    text = render_markdown(dataclasses.replace(night, manifest=manifest, label_source=source, study=small), {})
    assert "> Nobody has clicked: all agents met a **simulated market**" in text
    assert ("are **generated**" in text) == (generated > 0)
    assert ("rule-based stand-in" in text) == (source == "rule-sim-v1")
    assert ("**A quick look**: 5 seeds x 100 applicants" in text) == (seeds == 5)


def test_a_baseline_with_the_cosine_inside_is_no_cold_start(night: Night) -> None:
    assert "no cold start" not in render_markdown(night, {})
    inside = configured(**{"agent.features": "residual"})
    assert "no cold start" in render_markdown(dataclasses.replace(night, config=inside), {})


def test_without_a_map_judges_or_discount_their_sections_are_left_out(night: Night) -> None:
    bare = study(GAINS, gamma=0.0)
    config = configured(**{"agent.gamma": 0})
    none = dataclasses.replace(night, study=bare, config=config, relevance={}, fairness=[], champion="")
    text = render_markdown(none, {})
    assert "No map was drawn" in text
    for section in ("## Other judges", "## Fairness", "## Champion", "### Without discounting"):
        assert section in render_markdown(night, {})
        assert section not in text


def test_without_labels_that_can_be_trusted_there_is_no_llm(night: Night) -> None:
    untrusted = study({"cosine": 0.05}, budgets=(), levels=(0, 1))
    trusted = dataclasses.replace(night, relevance={}, fairness=[])
    text = render_markdown(dataclasses.replace(trusted, study=untrusted), {})
    assert verdict(untrusted, GAMMA).startswith("cosine is the one warm start that pays")
    for left_out in ("| hybrid |", "### What labels buy"):
        assert left_out in render_markdown(trusted, {})
        assert left_out not in text
    drawn = pictures(dataclasses.replace(trusted, study=untrusted))
    assert pictures(trusted).keys() - drawn.keys() == {"cost.png"}
    assert png(drawn["learning_curves.png"].draw(LIGHT))


def test_the_figures_are_numbers_only_and_the_same_again(night: Night, directory: Path) -> None:
    written = (directory / "figures.json").read_text()
    again = dataclasses.replace(night, study=study(GAINS, levels=(0, 1)))
    assert written == figures_json(again)
    told = json.loads(written)
    assert told["rows"]["hybrid-g0.3-n5000"]["gain"]["difference"]["mean"] == 0.09
    assert told["map"]["cosine1-n0"]["lead"]["p_value"] == 1e-06
    assert told["similarity"][0]["trained"] == 0.72
    assert told["fairness"][0][:2] == ["hybrid", "a man's name, then a woman's"]
    assert sorted(told["relevance"]) == sorted(night.relevance)
    assert list(told) == sorted(told)
    closer = dataclasses.replace(again, study=study({**GAINS, "cosine": 0.05 + 1e-15}, levels=(0, 1)))
    assert figures_json(closer) != written  # nothing is rounded
    unknown = dataclasses.replace(night.study, rows=[dataclasses.replace(night.study.rows[0], diversity=float("nan"))])
    assert (
        json.loads(figures_json(dataclasses.replace(night, study=unknown)))["rows"]["baseline-g0.3-n0"]["diversity"]
        is None
    )


LATE = "late on, in shares of the way from random to the best,"
CONTROLS = "every control earns less"
UNIT = "interactions per job shown more than without a warm start (p adjusted by Holm)"


@pytest.mark.parametrize(
    ("gains", "late", "said"),
    [
        (
            {"cosine": 0.2},
            {},
            f"cosine is the one warm start that pays: cosine +0.200 [+0.190, +0.210] (p < 0.001) {UNIT};"
            f" {LATE} cosine still knows more than the baseline (+0.100 [+0.090, +0.110]); {CONTROLS}; it needs no paid"
            " label.",
        ),
        (
            {
                "cosine": 0.2,
                "hybrid": 0.3,
                "hybrid, 50 labels": 0.2,
                "hybrid, 200 labels": 0.25,
                "hybrid, 1,000 labels": 0.295,
            },
            {"hybrid": 0.001},
            "hybrid pays most, +0.100 [+0.090, +0.110] ahead of cosine: hybrid +0.300 [+0.290, +0.310] (p < 0.001),"
            f" cosine +0.200 [+0.190, +0.210] (p < 0.001) {UNIT}; {LATE} hybrid has been met by the baseline"
            f" (+0.001 [-0.009, +0.011]); {CONTROLS}; the price is 5,000 paid labels an agent, and the difference to"
            " 1,000, +0.005 [-0.005, +0.015], may be none.",
        ),
        (
            {"cosine": 0.2, "llm": 0.205, "bandit": 0.2, "ranker": 0.1},
            {"llm": -0.05},
            "llm and cosine tie at the top, +0.005 [-0.005, +0.015] between the first two:"
            " llm +0.205 [+0.195, +0.215] (p < 0.001), cosine +0.200 [+0.190, +0.210] (p < 0.001)"
            f" {UNIT}; {LATE} llm knows less than the baseline (-0.050 [-0.060, -0.040]) and"
            " cosine still knows more than the baseline (+0.100 [+0.090, +0.110]); of the controls bandit"
            " (-0.005 [-0.015, +0.005]) and bandit, 5,000 labels (-0.005 [-0.015, +0.005]) are not shown to earn less;"
            " cosine is the cheapest of them and needs no paid label.",
        ),
        (
            {"cosine": 0.004, "llm": -0.05},
            {},
            "No warm start is shown to earn more than none: the best is cosine +0.004 [-0.006, +0.014] (p = 0.400),"
            " in interactions per job shown and with p adjusted by Holm;"
            " worse than no warm start: llm -0.050 [-0.060, -0.040] (p < 0.001).",
        ),
    ],
    ids=["one", "first, met late, cheaper", "tie, behind late", "none, harm"],
)
def test_the_verdict_says_what_the_intervals_allow(
    gains: Mapping[str, float], late: Mapping[str, float], said: str
) -> None:
    assert verdict(study(gains, late), GAMMA) == said


def test_an_interval_above_zero_is_no_evidence_until_holm_says_so() -> None:
    doubtful = study({"cosine": 0.02}, adjusted={"cosine": 0.08})
    assert verdict(doubtful, GAMMA).startswith(
        "No warm start is shown to earn more than none: the best is cosine +0.020"
    )


def test_planning_has_a_price_only_where_labels_lift() -> None:
    measured: Study = study(GAINS)
    assert planning(measured, GAMMA).startswith("Planning is worth 1.30 [0.90, 1.90] times the labels")
    assert "labels do not lift the control" in planning(dataclasses.replace(measured, planning=None), GAMMA)
    assert "was not measured" in planning(study(GAINS, budgets=(50, 200)), GAMMA)
