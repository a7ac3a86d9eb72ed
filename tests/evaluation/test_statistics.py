"""What a comparison may claim: closed forms worked out by hand, procedures written out, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dynaq.errors import InputError
from dynaq.evaluation.study.metrics import Estimate, estimate
from dynaq.evaluation.study.statistics import (
    bootstrapped,
    hierarchical,
    holm,
    interquartile_mean,
    label_multiplier,
    paired,
)

LABELS = [0, 50, 200, 1000, 5000]
RISING = np.array([0.0, 0.1, 0.2, 0.3, 0.4])  # what the control reaches at LABELS


def nested(rng: np.random.Generator, shape: tuple[int, ...], between: float, within: float) -> np.ndarray:
    """Values [..., S, A] around zero: luck of the seed plus luck of the applicant."""
    return between * rng.normal(size=(*shape[:-1], 1)) + within * rng.normal(size=shape)


def over_seeds(curve: np.ndarray, spread: float = 0.0, seeds: int = 5) -> np.ndarray:
    return curve + spread * np.random.default_rng(0).normal(size=(seeds, len(curve)))


def test_interval_by_hand() -> None:
    # Seed means 1, 2, 3: sd 1, t(0.975, 2) = 4.302653; how the applicants lie around them does not matter.
    found = hierarchical([[0.0, 2.0], [2.0, 2.0], [-1.0, 7.0]])
    assert found.mean == 2
    assert found.high == pytest.approx(2 + 4.302653 / np.sqrt(3), abs=1e-6)
    assert found.low == pytest.approx(2 - 4.302653 / np.sqrt(3), abs=1e-6)


def test_one_by_one_drawn_again() -> None:
    # Of four all are the same in 1 of 16 samples a side, more than 2.5%: the interval says how little four can tell.
    assert bootstrapped([-1.0, -1.0, 1.0, 1.0]) == Estimate(0, -1, 1)
    many = np.random.default_rng(0).normal(3, 2, 400)
    found, normal = bootstrapped(many), estimate(many)
    assert (found.mean, found.low, found.high) == pytest.approx((normal.mean, normal.low, normal.high), abs=0.02)
    for bad in ([1.0], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(InputError, match="needs at least 2 finite values"):
            bootstrapped(bad)


@pytest.mark.parametrize("between", [1.0, 0.01], ids=["seeds differ", "seeds differ less than by chance"])
def test_interval_is_that_of_the_bootstrap_drawn_out(between: float) -> None:
    seeds, applicants, replicates = 4, 5, 40_000
    around = stats.zscore(np.random.default_rng(2).normal(size=(seeds, applicants)), axis=1)
    means = between * np.array([0.0, 1.0, 2.0, 6.0])
    values, grand = means[:, None] + around, means.mean()
    spread, luck = ((means - grand) ** 2).sum(), (around**2).sum() / (applicants * (applicants - 1))
    shrunk = seeds / (seeds - 1) - luck / spread
    assert (shrunk > 0) == (between == 1)  # both branches of the procedure are met
    scale = np.sqrt(applicants / (applicants - 1)) * np.sqrt(min(1, seeds / (seeds - 1) * spread / luck))
    centres = grand + np.sqrt(max(shrunk, 0)) * (means - grand)

    rng = np.random.default_rng(3)
    drawn = rng.integers(seeds, size=(replicates, seeds))
    chosen = rng.integers(applicants, size=(replicates, seeds, applicants))
    residuals = scale * around[drawn[:, :, None], chosen].mean(axis=2)
    half = stats.t.ppf(0.975, seeds - 1) * (centres[drawn] + residuals).mean(axis=1).std()
    found = hierarchical(values)
    assert found.mean == pytest.approx(grand)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.02)  # sd of a standard deviation: 0.4%


@pytest.mark.parametrize("seeds", [5, 20])
@pytest.mark.parametrize(("between", "within"), [(1.0, 0.1), (0.3, 3.0), (0.0, 1.0)])
def test_arms_that_do_not_differ_are_told_apart_in_one_of_twenty(seeds: int, between: float, within: float) -> None:
    rng = np.random.default_rng(seeds)
    experiments, shape = 400, (seeds, 20)
    excluded = significant = 0
    for _ in range(experiments):
        market = rng.normal(size=shape)  # shared by the arms, so paired out
        compared = paired(market + nested(rng, shape, between, within), market + nested(rng, shape, between, within))
        excluded += not compared.difference.low <= 0 <= compared.difference.high
        significant += compared.p_value < 0.05
    assert 0.03 <= excluded / experiments <= 0.075
    assert significant == excluded


@pytest.mark.parametrize(("seeds", "bound"), [(5, 0.01), (20, 0.02)])
def test_nested_draws_without_shrinkage_would_hide_differences(seeds: int, bound: float) -> None:
    """Why the procedure is not the naive one: its variance, in closed form, has the luck of applicants twice."""
    values = nested(np.random.default_rng(0), (2_000, seeds, 20), 0.0, 1.0)
    means = values.mean(axis=2)
    naive = np.sqrt((means.var(axis=1) + values.var(axis=2).mean(axis=1) / 20) / seeds)
    assert (np.abs(means.mean(axis=1)) > stats.t.ppf(0.975, seeds - 1) * naive).mean() < bound


def test_paired_by_hand() -> None:
    # Seed differences 1, 2, 3, 0: mean 1.5, sd 1.290994, t = 1.5 / (1.290994 / 2) = 2.323790 at 3 df.
    second = np.array([[5.0, 7.0], [1.0, 1.0], [0.0, 2.0], [3.0, 3.0]])
    first = second + np.array([[2.0, 0.0], [2.0, 2.0], [3.0, 3.0], [1.0, -1.0]])
    found = paired(first, second)
    assert found.difference == hierarchical(first - second)
    assert found.difference.mean == 1.5
    assert found.p_value == pytest.approx(stats.ttest_rel(first.mean(axis=1), second.mean(axis=1)).pvalue)
    assert found.improvement == 3.5 / 4
    assert found.seeds == 4
    back = paired(second, first)
    assert (back.difference.mean, back.improvement) == (-1.5, 0.5 / 4)
    assert back.p_value == pytest.approx(found.p_value)


def test_arms_without_spread() -> None:
    values = nested(np.random.default_rng(0), (4, 3), 1.0, 1.0)
    same = paired(values, values + 1e-15)
    assert same == paired(values, values)
    assert (same.difference, same.p_value, same.improvement) == (Estimate(0, 0, 0), 1.0, 0.5)
    always = paired(np.ones((4, 3)), np.zeros((4, 3)))
    assert (always.difference, always.p_value, always.improvement) == (Estimate(1, 1, 1), 0.0, 1.0)


def test_interquartile_mean_by_hand() -> None:
    values = np.array([[0.0, 2.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0], [900.0, 1100.0]])  # means 1, 2, 3, 4, 1000
    found = interquartile_mean(values)
    assert found.mean == 3
    assert found.low < 3 < found.high
    assert found == interquartile_mean(values)
    moved = interquartile_mean(10 + 2 * values)
    assert (moved.mean, moved.high - moved.mean) == pytest.approx((16, 2 * (found.high - 3)))


def test_interquartile_mean_of_three_seeds_trims_none_and_is_the_bootstrap_of_the_mean() -> None:
    values = np.array([[1.0], [2.0], [6.0]])
    found, exact = interquartile_mean(values), estimate(values[:, 0])
    assert found.mean == pytest.approx(exact.mean)
    assert found.high - found.mean == pytest.approx(exact.high - exact.mean, rel=0.05)  # 2,000 draws: 1.6%


def test_holm_by_hand() -> None:
    # Sorted .01 x 4, .02 x 3, .03 x 2, .04 x 1: .04, .06, .06, and .04 may not fall below .06.
    found = holm({"d": 0.04, "a": 0.01, "c": 0.03, "b": 0.02})
    assert found == pytest.approx({"d": 0.06, "a": 0.04, "c": 0.06, "b": 0.06})
    assert list(found) == ["d", "a", "c", "b"]
    assert holm({("x", 1): 0.6, ("x", 2): 0.7}) == {("x", 1): 1.0, ("x", 2): 1.0}
    assert holm({}) == {}


def test_label_multiplier_by_hand() -> None:
    control = over_seeds(RISING)
    same = label_multiplier(control, control, LABELS)
    assert same is not None
    assert (same.mean, same.low, same.high) == pytest.approx((1, 1, 1))
    # At 200 ours reaches .3, the control's 1000; at 1000 .35, halfway in log2 from 1000 to 5000: sqrt(5 x 5^.5).
    ours = over_seeds(np.array([0.3, 0.3, 0.3, 0.35, 0.4]))
    found = label_multiplier(ours, control, LABELS)
    assert found is not None
    assert found.mean == pytest.approx(5**0.75)
    assert found == label_multiplier(ours[:, 1:], control[:, 1:], LABELS[1:])  # no labels, no multiple of them


def test_label_multiplier_is_capped_by_the_ends_of_the_table() -> None:
    control = over_seeds(RISING, spread=0.01)
    best, worst = label_multiplier(control + 1, control, LABELS), label_multiplier(control - 1, control, LABELS)
    assert best is not None
    assert worst is not None
    assert (best.mean, best.low, best.high) == pytest.approx([np.sqrt(5000 / 200 * 5000 / 1000)] * 3)
    assert (worst.mean, worst.low, worst.high) == pytest.approx([np.sqrt(50 / 200 * 50 / 1000)] * 3)
    unsure = label_multiplier(over_seeds(np.full(5, 0.37), spread=0.1), control, LABELS)
    assert unsure is not None
    assert unsure.mean < unsure.high == pytest.approx(best.mean)


def test_label_multiplier_takes_the_control_at_its_best_so_far() -> None:
    control = over_seeds(np.array([0.0, 0.1, 0.3, 0.2, 0.4]))
    ours = over_seeds(np.array([0.0, 0.0, 0.35, 0.25, 0.0]))
    found = label_multiplier(ours, control, LABELS)
    assert found is not None
    # .35 is halfway from the best before 5000 labels to what they reached; .25 three quarters from 50 to 200 labels.
    assert found.mean == pytest.approx(np.sqrt(np.sqrt(1000 * 5000) / 200 * 50 * 4**0.75 / 1000))


def test_label_multiplier_covers_the_truth() -> None:
    """On curves straight in log2(labels) ours is worth 2 times the labels."""
    levels = np.log2([50, 200, 1000, 5000])
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        control = 0.1 * levels + 0.05 * rng.normal(size=(10, 4))
        found = label_multiplier(0.1 * (levels + 1) + 0.05 * rng.normal(size=(10, 4)), control, LABELS[1:])
        assert found is not None
        covered += found.low <= 2 <= found.high
    assert 54 <= covered < 60


def test_no_multiplier_where_labels_do_not_lift_the_control() -> None:
    ours = over_seeds(RISING + 0.1)
    assert label_multiplier(ours, over_seeds(RISING[::-1]), LABELS) is None
    assert label_multiplier(ours, over_seeds(np.full(5, 0.1)), LABELS) is None
    lucky = over_seeds(np.full(5, 0.1))
    lucky[:, -1] += [-0.1, 0.2, 0.1, -0.1, 0.1]  # more on average, but it may be chance
    assert label_multiplier(ours, lucky, LABELS) is None


def test_bad_values_are_named() -> None:
    good = np.ones((3, 2))
    holed = good.copy()
    holed[2, 1] = np.nan
    for measure in (hierarchical, interquartile_mean):
        with pytest.raises(InputError, match="values holds nan at seed row 2, column 1 of its applicants"):
            measure(holed)
        with pytest.raises(InputError, match=r"values is \[3\], it must be \[seeds, applicants\]"):
            measure(good[:, 0])
        with pytest.raises(InputError, match=r"values is \[3, 0\]"):
            measure(good[:, :0])
        with pytest.raises(InputError, match="values has 1 seed, an interval needs at least 2"):
            measure(good[:1])
    with pytest.raises(InputError, match="second holds inf"):
        paired(good, good * np.inf)
    with pytest.raises(InputError, match=r"first is \[3, 2\], but second is \[2, 2\]: seeds and applicants must agree"):
        paired(good, good[:2])
    for p in (np.nan, -0.1, 1.1):
        with pytest.raises(InputError, match=f"the p-value of llm is {p:g}, it must be 0 to 1"):
            holm({"cosine": 0.5, "llm": p})


def test_bad_budgets_are_named() -> None:
    good = over_seeds(RISING)
    for labels in ([0, 50, 50, 1000, 5000], [-1, 50, 200, 1000, 5000], [0, 50, np.nan, 1000, 5000], [LABELS]):
        with pytest.raises(InputError, match="it must be rising numbers of labels, 0 or more"):
            label_multiplier(good, good, labels)
    with pytest.raises(InputError, match="ours and control have 5 budgets, but labels names 4"):
        label_multiplier(good, good, LABELS[1:])
    with pytest.raises(InputError, match="labels has 2 budgets above 0, a label multiplier needs at least 3"):
        label_multiplier(good[:, :3], good[:, :3], LABELS[:3])
    with pytest.raises(InputError, match="control holds nan at seed row 0, column 2 of its budgets"):
        label_multiplier(good, np.where(good == 0.2, np.nan, good), LABELS)
    with pytest.raises(InputError, match="ours has 1 seed"):
        label_multiplier(good[:1], good[:1], LABELS)
