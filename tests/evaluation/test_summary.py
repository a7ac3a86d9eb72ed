"""From runs to rows: differences are paired by seed, and discounts are kept apart."""

from __future__ import annotations

import pytest

from dynaq.agents.arms import WARM_STARTS
from dynaq.config import CompareConfig
from dynaq.config_file import load_config
from dynaq.errors import InputError
from dynaq.evaluation.comparison import OnlineRun
from dynaq.evaluation.summary import ArmSummary, Comparison, summarise
from tests.evaluation.hand_made import APPLICANTS, SEEDS, STEPS, online_runs, references
from tests.paths import BASE_CONFIG

HALF_WIDTH = 3.182446 * 0.01 * (4 / 3) ** 0.5 / 4**0.5  # t(3 degrees) x sd of +-0.01 / sqrt(seeds)


@pytest.fixture
def compare() -> CompareConfig:
    return load_config(BASE_CONFIG, {"compare.steps": STEPS, "compare.window": 2}).compare


@pytest.fixture
def runs() -> list[OnlineRun]:
    return online_runs({"cosine": 0.2, "llm": -0.05}, gamma=0.3) + online_runs({"cosine": 0.05}, gamma=0.0)


def arm(comparison: Comparison, agent: str, gamma: float) -> ArmSummary:
    (found,) = [each for each in comparison.of(gamma) if each.agent == agent]
    return found


def test_gains_are_paired_by_seed_in_any_order(runs: list[OnlineRun], compare: CompareConfig) -> None:
    for given in (runs, runs[::-1], sorted(runs, key=lambda run: (run.arm.seed * 5) % 7)):
        cosine = arm(summarise(given, references(), compare), "cosine", 0.3)
        assert cosine.gain.mean == pytest.approx(0.2, abs=1e-6)
        assert cosine.gain.low == pytest.approx(0.2 - HALF_WIDTH, abs=1e-6)
        assert cosine.gain.high == pytest.approx(0.2 + HALF_WIDTH, abs=1e-6)
        # The seeds differ by far more than the arms do.
        assert cosine.average.high - cosine.average.low > 0.3
        assert cosine.average.mean == pytest.approx(0.45, abs=1e-6)


def test_discounts_are_kept_apart(runs: list[OnlineRun], compare: CompareConfig) -> None:
    comparison = summarise(runs, references(), compare)
    for gamma, gain in ((0.3, 0.2), (0.0, 0.05)):
        assert [each.agent for each in comparison.of(gamma)] == list(WARM_STARTS)
        assert arm(comparison, "cosine", gamma).gain.mean == pytest.approx(gain, abs=1e-6)
        baseline = arm(comparison, "baseline", gamma)
        assert (baseline.gain.low, baseline.gain.mean, baseline.gain.high) == (0, 0, 0)
    assert comparison.of(0.5) == []
    assert arm(comparison, "llm", 0.0).name == "llm, gamma 0"


def test_figures_of_the_whole(runs: list[OnlineRun], compare: CompareConfig) -> None:
    comparison = summarise(runs, references(), compare)
    assert (comparison.seeds, comparison.steps, comparison.applicants) == (SEEDS, STEPS, APPLICANTS)
    assert (comparison.random_average, comparison.optimum_average) == pytest.approx((0.05, 0.95))
    cosine, hybrid = arm(comparison, "cosine", 0.3), arm(comparison, "hybrid", 0.3)
    assert (cosine.labels, hybrid.labels) == (0, 101.5)
    assert cosine.cumulative.mean == pytest.approx(STEPS * 0.45, abs=1e-5)
    assert cosine.curve.mean == pytest.approx([0.45] * STEPS, abs=1e-6)
    # Half of the way from 0.05 to 0.95 is 0.5: of 0.31, 0.39, 0.51, 0.59 two get there, with the first full window.
    assert cosine.metrics.time_to_threshold == (None, None, 2, 2)


@pytest.mark.parametrize(
    ("agent", "gamma", "seeds"), [("cosine", 0.3, [2]), ("baseline", 0.0, [0, 3]), ("baseline", 0.3, [0, 1, 2, 3])]
)
def test_an_arm_that_lacks_a_seed_is_named(
    runs: list[OnlineRun], compare: CompareConfig, agent: str, gamma: float, seeds: list[int]
) -> None:
    kept = [run for run in runs if (run.arm.agent, run.arm.gamma) != (agent, gamma) or run.arm.seed not in seeds]
    with pytest.raises(InputError) as caught:
        summarise(kept, references(), compare)
    assert str(caught.value) == (
        f"the comparison lacks {agent} at gamma {gamma:g} for seeds {seeds}: run the compare flow"
    )
