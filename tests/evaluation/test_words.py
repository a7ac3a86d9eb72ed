"""Titles of figures say no more than the intervals do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dynaq.config.stages import DialConfig
from dynaq.evaluation.champion import find_winner
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.report import words
from dynaq.evaluation.report.lineup import four
from dynaq.evaluation.study.metrics import Curve
from tests.evaluation.hand_made import GAMMA, study

GAINS = {"cosine": 0.05, "hybrid": 0.09, "llm": 0.004, "ranker": 0.086}


def test_only_who_is_shown_to_earn_or_know_more_is_named_so() -> None:
    rows = four(study(GAINS, {"cosine": 0.03, "hybrid": 0.004, "llm": -0.02}), GAMMA)
    assert words.curves_title(rows) == "Over all steps cosine and hybrid earn more than the baseline"
    assert words.shares_title(rows) == (
        "Late on, beside the baseline: cosine knows more, llm knows less and hybrid knows as much"
    )
    nobody = four(study({"cosine": 0.004, "llm": -0.05}), GAMMA)
    assert words.curves_title(nobody) == "No warm start is shown to earn more than the baseline"


def test_titles_and_verdict_ask_for_the_same() -> None:
    unsure = study(
        {"cosine": 0.05, "hybrid": 0.05}, adjusted={"hybrid": 0.08}
    )  # its interval lies above 0 all the same
    assert words.curves_title(four(unsure, GAMMA)) == "Over all steps cosine earns more than the baseline"
    assert words.verdict(unsure, GAMMA).startswith("cosine is the one warm start that pays: cosine +0.050")


def test_an_agent_that_pays_with_fewer_labels_only_is_named_too() -> None:
    fewer = study({"cosine": 0.05, "hybrid, 50 labels": 0.06, "hybrid, 200 labels": 0.07, "llm, 50 labels": -0.05})
    told = words.verdict(fewer, GAMMA)
    assert told.startswith("cosine is the one warm start that pays with 5,000 labels or none: cosine +0.050")
    assert (
        "; with fewer labels hybrid, 50 labels (+0.060 [+0.050, +0.070], p < 0.001) and hybrid, 200 labels (+0.070"
        " [+0.060, +0.080], p < 0.001) pay too; late on"
    ) in told
    assert find_winner(fewer, GAMMA) == Contestant("hybrid", GAMMA, 200)
    alone = words.verdict(study({"llm, 200 labels": 0.07}), GAMMA)
    assert alone.startswith("No warm start with 5,000 labels or none is shown to earn more than none: the best is")
    assert alone.endswith("; with fewer labels llm, 200 labels (+0.070 [+0.060, +0.080], p < 0.001) pays too.")
    assert "fewer labels" not in words.verdict(study({"hybrid": 0.05}), GAMMA)  # of those that pay the price is told


def test_who_cannot_be_told_from_the_first_ties_with_it() -> None:
    assert words.cost_title(study(GAINS), GAMMA) == "With 5,000 labels hybrid and ranker tie at the top"
    assert words.cost_title(study(GAINS | {"ranker": 0.0}), GAMMA) == "With 5,000 labels hybrid earns most"


def test_a_threshold_has_no_winner_but_shares_of_seeds() -> None:
    rows = four(study(GAINS), GAMMA)
    shares = [f"{100 * row.times[0.5].reached_share:.0f}%" for row in rows]
    title = words.survival_title(0.5, rows)
    assert title.startswith("50% of the way to the best is held in so many seeds: cosine ")
    assert [each for each in shares if each not in title] == []


@pytest.mark.parametrize(
    ("above", "until"), [([1, 1, 1], "the end"), ([1, 0, 1], "step 1"), ([0, 1, 1], "not from the start")]
)
def test_bands_are_apart_until_they_first_meet(above: list[int], until: str) -> None:
    first, _, _, baseline = four(study(GAINS), GAMMA)
    steps, flat = np.arange(1, 4), np.zeros(3)

    def with_band(middle: np.ndarray) -> Curve:
        return Curve(steps, middle, middle - 0.1, middle + 0.1)

    agent = dataclasses.replace(first, known=with_band(np.array(above, dtype=float)))
    assert words.apart_until(agent, dataclasses.replace(baseline, known=with_band(flat))) == until


def test_a_map_that_is_missing_has_its_reason() -> None:
    drawn = study(GAINS, levels=(0, 1))
    both = DialConfig(levels=[0, 1], rewards=["cosine", "llm"])
    assert words.no_map(drawn, both) == ""
    only = dataclasses.replace(drawn, map=[cell for cell in drawn.map if cell.world.towards == "cosine"])
    assert "No map of the llm reward" in words.no_map(only, both)
    assert "levels` is empty" in words.no_map(study(GAINS), both.model_copy(update={"levels": []}))
