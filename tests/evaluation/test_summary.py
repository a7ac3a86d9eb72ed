"""From runs to a study: differences are paired by seed, discounts and worlds are kept apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dynaq.config import CompareConfig
from dynaq.config_file import load_config
from dynaq.errors import InputError
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.world import OWN, World
from dynaq.evaluation.online import OnlineRun
from dynaq.evaluation.study.study import Row, Study
from dynaq.evaluation.study.summary import summarise
from tests.paths import BASE_CONFIG

SEEDS, STEPS, APPLICANTS = 4, 6, 2
HALF_WIDTH = 3.182446 * 0.01 * (4 / 3) ** 0.5 / 4**0.5  # t(3 degrees) x sd of +-0.01 / sqrt(seeds)
COSINE, BASELINE, RANDOM, OPTIMUM = (Contestant(kind, 0.3) for kind in ("cosine", "baseline", "random", "optimum"))
HYBRID = [Contestant("hybrid", 0.3, labels) for labels in (50, 200, 1000)]
REPLAY = [Contestant("no planning", 0.3, labels) for labels in (50, 200, 1000)]


@pytest.fixture(scope="module")
def compare() -> CompareConfig:
    return load_config(BASE_CONFIG, {"compare.steps": STEPS, "compare.window": 2}).compare


def online_run(contestant: Contestant, seed: int, gain: float, world: World) -> OnlineRun:
    """The same reward at every step: 0.1 more in each next seed, and over the baseline ``gain`` plus or minus 0.01."""
    wobble = 0 if contestant.kind == "baseline" else 0.01 * (-1) ** seed
    rewards = np.full((STEPS, APPLICANTS), 0.1 * (1 + seed) + gain + wobble, dtype=np.float32)
    if contestant.kind in ("random", "optimum"):
        rewards = np.full_like(rewards, 0.05 if contestant.kind == "random" else 0.95)
    profile: dict[str, Any] = {"coverage": 0.5, "diversity": 0.4, "gini": 0.3, "calibration": None}
    profile["reached"] = {"market": 0.25 + 0.01 * seed, "cosine": 0.75, "llm": None}
    return OnlineRun(
        contestant=contestant,
        world=world,
        seed=seed,
        rewards=rewards,
        chances=rewards - 0.02,
        best=rewards + 0.1,
        knows=rewards,
        knows_random=np.full_like(rewards, 0.05),
        knows_best=np.full_like(rewards, 0.95),
        ndcg=np.stack([np.full(APPLICANTS, 0.5), np.full(APPLICANTS, 0.7)]).astype(np.float32),
        curves={},
        before={"labels": contestant.labels - seed if contestant.labels else 0, "tokens": 0, "gradient_steps": 7},
        provenance=["cosine"] if contestant.kind == "cosine" else [],
        profile={"launch": profile, "end": profile},
        agreement={"cosine": 0.4},
        jobs=30,
        start=None,
    )


def everybody(gains: dict[Contestant, float], world: World = World(OWN)) -> list[OnlineRun]:  # noqa: B008
    return [online_run(each, seed, gain, world) for each, gain in gains.items() for seed in range(SEEDS)]


OWN_GAINS = {
    BASELINE: 0.0,
    COSINE: 0.2,
    Contestant("llm", 0.3, 50): -0.05,
    **dict(zip(HYBRID, (0.1, 0.2, 0.3), strict=True)),
    **dict(zip(REPLAY, (0.0, 0.1, 0.2), strict=True)),
    Contestant("baseline", 0.0): 0.1,
    Contestant("cosine", 0.0): 0.15,
    RANDOM: 0.0,
    OPTIMUM: 0.0,
}


def row(found: Study, contestant: Contestant) -> Row:
    (one,) = [each for each in found.rows if each.contestant == contestant]
    return one


def test_gains_are_paired_by_seed_in_any_order(compare: CompareConfig) -> None:
    runs = everybody(OWN_GAINS)
    for given in (runs, runs[::-1], sorted(runs, key=lambda run: (run.seed * 5) % 7)):
        cosine = row(summarise(given, compare, 0.3), COSINE)
        assert cosine.gain is not None
        assert cosine.gain.difference.mean == pytest.approx(0.2, abs=1e-6)
        assert cosine.gain.difference.low == pytest.approx(0.2 - HALF_WIDTH, abs=1e-6)
        assert cosine.gain.difference.high == pytest.approx(0.2 + HALF_WIDTH, abs=1e-6)
        assert cosine.gain.improvement == 1
        # The seeds differ by far more than the arms do.
        assert cosine.average.high - cosine.average.low > 0.3
        assert cosine.average.mean == pytest.approx(0.45, abs=1e-6)


def test_gains_are_over_the_baseline_of_the_same_discount(compare: CompareConfig) -> None:
    found = summarise(everybody(OWN_GAINS), compare, 0.3)
    undiscounted = row(found, Contestant("cosine", 0.0))
    assert undiscounted.gain is not None
    assert undiscounted.gain.difference.mean == pytest.approx(0.05, abs=1e-6)
    assert row(found, BASELINE).gain is None
    random = row(found, RANDOM)
    assert random.gain is not None
    assert random.gain.difference.mean == pytest.approx(0.05 - 0.25, abs=1e-6)


def test_p_is_adjusted_over_the_gains_of_agents(compare: CompareConfig) -> None:
    found = summarise(everybody(OWN_GAINS), compare, 0.3)
    told = [each for each in found.rows if each.adjusted is not None]
    assert {each.contestant.kind for each in told} == {"cosine", "llm", "hybrid"}
    assert len(told) == 6
    smallest = min(told, key=lambda each: each.gain.p_value if each.gain else 1)
    assert smallest.gain is not None
    assert smallest.adjusted == pytest.approx(6 * smallest.gain.p_value)


def test_figures_of_a_row(compare: CompareConfig) -> None:
    found = summarise(everybody(OWN_GAINS), compare, 0.3)
    assert (found.seeds, found.steps, found.applicants, found.jobs) == (SEEDS, STEPS, APPLICANTS, 30)
    assert (found.agreement, found.full) == ({"cosine": pytest.approx(0.4)}, False)
    cosine = row(found, COSINE)
    assert cosine.cumulative.mean == pytest.approx(STEPS * 0.45, abs=1e-5)
    assert cosine.regret.mean == pytest.approx(0.12, abs=1e-6)
    assert cosine.curve.mean == pytest.approx([0.45] * STEPS, abs=1e-6)
    assert [each.mean for each in cosine.ndcg] == pytest.approx([0.5, 0.7])
    assert cosine.reached == {"market": pytest.approx(0.265), "cosine": 0.75}
    assert cosine.gap is not None
    assert cosine.gap.mean == pytest.approx(0.75 - 0.265)
    assert row(found, BASELINE).gap is None  # taught nothing
    assert row(found, HYBRID[0]).before == {"labels": 48.5, "tokens": 0, "gradient_steps": 7}
    # Half of the way from 0.05 to 0.95 is 0.5: 0.31, 0.39, 0.51, 0.59 are two that hold it from the start.
    assert (cosine.times[0.5].median, cosine.times[0.5].reached_share) == (1, 0.5)
    assert len(cosine.times[0.5].steps) == STEPS - 1  # of the last it cannot be told, with a window of 2
    assert cosine.late_known.mean == pytest.approx(0.4 / 0.9, abs=1e-6)
    assert cosine.known.mean == pytest.approx([0.4 / 0.9] * STEPS, abs=1e-6)
    assert cosine.late_gain is not None
    assert cosine.late_gain.difference.mean == pytest.approx(0.2 / 0.9, abs=1e-6)
    lead, behind = (found.lead(*pair) for pair in ((COSINE, RANDOM), (RANDOM, COSINE)))
    assert (lead.mean, lead.low) == (pytest.approx(0.4, abs=1e-6), pytest.approx(-behind.high))


def test_first_and_last_steps_are_those(compare: CompareConfig) -> None:
    assert (compare.window, compare.late_steps) == (2, 2)
    runs, slope = everybody(OWN_GAINS), np.arange(STEPS, dtype=np.float32)[:, None] / 100
    for place, run in enumerate(runs):
        if run.contestant == COSINE:  # it earns 0 to 5 hundredths more from step to step, and knows twice as much more
            runs[place] = dataclasses.replace(run, rewards=run.rewards + slope, knows=run.knows + 2 * slope)
    found = row(summarise(runs, compare, 0.3), COSINE)
    assert found.jump_start.mean == pytest.approx(0.45 + 0.005, abs=1e-6)
    assert found.late.mean == pytest.approx(0.45 + 0.045, abs=1e-6)
    assert found.average.mean == pytest.approx(0.45 + 0.025, abs=1e-6)
    assert found.late_known.mean == pytest.approx((0.4 + 0.09) / 0.9, abs=1e-6)
    assert found.known.mean == pytest.approx([(0.4 + 0.02 * step) / 0.9 for step in range(STEPS)], abs=1e-6)


def test_a_world_model_is_off_in_every_seed_and_not_on_average_over_them(compare: CompareConfig) -> None:
    runs = everybody(OWN_GAINS)
    for run in runs:  # predicted too high in one seed and too low in the next, and right on average
        run.profile["end"] = run.profile["end"] | {"calibration": [(0.2 + 0.1 * (-1) ** run.seed, 0.2)] * 10}
    error = row(summarise(runs, compare, 0.3), COSINE).calibration_error
    assert error is not None
    assert error.mean == pytest.approx(0.1)


def test_planning_is_worth_the_labels_that_the_control_needs_more(compare: CompareConfig) -> None:
    found = summarise(everybody(OWN_GAINS), compare, 0.3)
    assert found.planning is not None
    assert found.planning.mean == pytest.approx(5, rel=0.05)  # with 200 labels as good as the control with 1,000
    two = {each: gain for each, gain in OWN_GAINS.items() if each.labels != 1000}
    assert summarise(everybody(two), compare, 0.3).planning is None


def test_the_map_compares_each_arm_as_it_is_with_so_many_labels(compare: CompareConfig) -> None:
    half = World("cosine", 0.5)
    there = {BASELINE: 0.0, COSINE: 0.1, Contestant("llm", 0.3, 50): 0.3, HYBRID[0]: 0.2}
    found = summarise(everybody(OWN_GAINS) + everybody(there, half), compare, 0.3)
    free, paid = found.map
    assert (free.world, free.labels, free.best, free.second) == (half, 0, "cosine", "baseline")
    assert free.lead.difference.mean == pytest.approx(0.1, abs=1e-6)
    assert (paid.labels, paid.best, paid.second) == (50, "llm", "hybrid")
    assert set(paid.averages) == {"baseline", "cosine", "llm", "hybrid"}
    # Late on: shares of the way from 0.05 to 0.95, whatever is earned.
    lates = [paid.late[arm].difference.mean for arm in ("cosine", "hybrid", "llm")]
    assert lates == pytest.approx([0.1 / 0.9, 0.2 / 0.9, 0.3 / 0.9], abs=1e-6)


def test_what_is_lacking_is_named(compare: CompareConfig) -> None:
    runs = everybody(OWN_GAINS)
    with pytest.raises(InputError, match=r"the comparison lacks cosine for seeds \[2\]: run the compare flow"):
        summarise([run for run in runs if (run.contestant, run.seed) != (COSINE, 2)], compare, 0.3)
    with pytest.raises(InputError, match="the comparison lacks baseline, random"):
        summarise([run for run in runs if run.contestant not in (BASELINE, RANDOM)], compare, 0.3)
