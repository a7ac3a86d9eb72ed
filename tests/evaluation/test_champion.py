"""A champion falls only to an interval that lies above the margin."""

from __future__ import annotations

import dataclasses

import pytest

from dynaq.errors import InputError
from dynaq.evaluation.champion import Rival, decide, find_winner, lead_over
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.world import OWN, World
from dynaq.evaluation.report.words import verdict
from dynaq.evaluation.study.metrics import Estimate
from dynaq.evaluation.study.statistics import Difference
from tests.evaluation.hand_made import GAMMA, study
from tests.evaluation.test_summary import BASELINE, online_run


def lead(low: float, mean: float = 0.03, high: float = 0.05) -> Difference:
    return Difference(Estimate(mean, low, high), 0.04, 0.8, seeds=5)


@pytest.mark.parametrize(
    ("rival", "low", "promote", "bound"),
    [
        ("baseline", 0.0001, True, "0"),  # the first must be shown to beat it, by whatever
        ("baseline", 0.0, False, "0"),
        ("baseline", -0.01, False, "0"),
        ("champion", 0.0101, True, "the margin of 0.01"),
        ("champion", 0.01, False, "the margin of 0.01"),
        ("champion", -0.01, False, "the margin of 0.01"),
    ],
)
def test_the_whole_interval_must_lie_above_the_bound(rival: Rival, low: float, promote: bool, bound: str) -> None:
    decision = decide("hybrid", rival, lead(low), 0.01)
    assert decision.promote is promote
    lies = "lies" if promote else "does not lie"
    assert decision.reason == (
        f"hybrid is +0.0300 [{low:+.4f}, +0.0500] ahead of the {rival} in 5 fresh markets, which {lies} above {bound}"
    )


def test_a_margin_of_nothing_still_asks_for_a_lead() -> None:
    assert not decide("hybrid", "champion", lead(0.0, 0.0, 0.0), 0.0).promote
    assert decide("hybrid", "champion", lead(0.001), 0.0).promote


def test_the_champion_does_not_replace_itself() -> None:
    decision = decide("hybrid", "champion", lead(0.02), 0.01, same_weights=True)
    assert not decision.promote
    assert "is the champion already" in decision.reason


@pytest.mark.parametrize("margin", [-0.01, float("nan"), float("inf")])
def test_a_margin_that_is_none(margin: float) -> None:
    with pytest.raises(InputError, match="must be at least 0"):
        decide("hybrid", "baseline", lead(0.02), margin)


@pytest.mark.parametrize("low", [float("nan"), float("-inf")])
def test_without_an_interval_there_is_no_decision(low: float) -> None:
    with pytest.raises(InputError, match="without an interval there is no decision"):
        decide("hybrid", "champion", lead(low), 0.01)


def test_the_winner_is_the_best_that_is_shown_to_beat_the_baseline() -> None:
    gains = {"cosine": 0.05, "hybrid": 0.02, "hybrid, 200 labels": 0.08}
    best = find_winner(study(gains), GAMMA)
    assert best is not None
    assert best.name == "hybrid, 200 labels"
    assert find_winner(study({"cosine": 0.004}), GAMMA) is None  # its interval includes 0
    doubtful = find_winner(study({"cosine": 0.05}, adjusted={"cosine": 0.06}), GAMMA)
    assert doubtful is None  # and so does Holm's correction of many


def test_whoever_is_shown_wins_before_one_that_earned_more_and_is_not() -> None:
    tonight = study({"cosine": 0.05, "hybrid": 0.06}, adjusted={"hybrid": 0.2})
    assert verdict(tonight, GAMMA).startswith("cosine is the one warm start that pays")
    assert find_winner(tonight, GAMMA) == Contestant("cosine", GAMMA)


@pytest.mark.parametrize("rival", ["champion", "baseline"])
def test_challenger_and_rival_are_paired_by_seed(rival: Rival) -> None:
    gains = {"challenger": 0.2, rival: 0.15}
    runs = [
        dataclasses.replace(online_run(BASELINE, seed, gain, World(OWN)), contestant=Contestant(kind, 0.3))  # type: ignore[arg-type]
        for kind, gain in gains.items()
        for seed in (3, 0, 2, 1)
    ]
    found = lead_over(rival, runs)
    assert tuple(vars(found.difference).values()) == pytest.approx((0.05, 0.05, 0.05), abs=1e-6)
    assert found.seeds == 4
