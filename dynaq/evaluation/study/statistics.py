"""What a comparison over seeds may claim: intervals, p-values, and what a label is worth.

Values are [seeds, applicants]: every seed is a training run, a market and a draw of applicants from one held-out pool,
so the seed is the unit of replication. Seeds share some of the pool's applicants, which makes two-way intervals 3 to
15% wider than these (measured on the full study of the demo). Nothing here depends on anything but its arguments: where
seeds are drawn again, the generator is always the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from dynaq.errors import InputError
from dynaq.evaluation.study.metrics import CONFIDENCE, ROUNDING, Estimate, Floats, estimate

REPLICATES = 2_000
BOOTSTRAP_SEED = 0
TRIMMED_SHARE = 0.25  # at each end: what is left is between the quartiles

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Difference:
    """How one arm differs from another that met the same seeds.

    Attributes:
        difference: mean of first - second.
        p_value: two-sided, that the mean difference is zero; below 0.05 exactly where the interval excludes zero.
        improvement: probability that first beats second in a seed, a tie counting half.
        seeds: how many there were.
    """

    difference: Estimate
    p_value: float
    improvement: float
    seeds: int


def hierarchical(values: ArrayLike) -> Estimate:
    """Mean and 95% interval by the hierarchical bootstrap: seeds drawn again, then applicants in each drawn seed.

    Drawn naively, a replicate counts the luck of the applicants twice: it is in the seed means already. Davison
    and Hinkley (1997, "Bootstrap Methods and their Application", section 3.8) therefore shrink the S seed means m_i
    towards the grand mean m: a replicate is the mean of S drawn seeds, each m + k (m_i - m) + A of its own
    residuals, drawn with replacement and scaled by sqrt(A / (A - 1)), with

        k^2 = S / (S - 1) - W / (A (A - 1) B),    B = sum (m_i - m)^2,    W = sum (y_ij - m_i)^2.

    The variance of a replicate, over all that could be drawn, is then

        (k^2 B / S + W / (S A (A - 1))) / S = B / (S (S - 1)) = var(m_i, ddof=1) / S,

    so none is drawn: this is the limit of infinitely many. Where the luck of the applicants would by itself
    spread the seed means wider than they lie, k is 0 and the residuals are scaled to that same variance. (Left
    as they are, arms that do not differ were told apart in 0.4% of comparisons over 5 seeds instead of 5%.)
    The interval is that standard deviation times Student's t at S - 1: percentiles are too narrow for few seeds.

    Args:
        values: [S, A], finite.

    Raises:
        InputError: NaN, not [seeds, applicants], or fewer than two seeds.
    """
    return estimate(_matrix("values", values, "applicants").mean(axis=1))


def paired(first: ArrayLike, second: ArrayLike) -> Difference:
    """Compare two arms that met the same seeds and applicants in the same order.

    The probability of improvement of Agarwal et al. (2021, "Deep reinforcement learning at the edge of the
    statistical precipice") sets every run of one arm against every run of the other. Here the arms of a seed share
    applicants, candidates and luck, so the mean of a seed is set against that of the same seed only.

    Args:
        first: [S, A], finite.
        second: [S, A], finite.

    Raises:
        InputError: NaN, shapes that differ, not [seeds, applicants], or fewer than two seeds.
    """
    left, right = _pair("applicants", first=first, second=second)
    gains = (left - right).mean(axis=1)  # their t-interval is the hierarchical bootstrap's, see there
    gains[np.abs(gains) <= ROUNDING] = 0.0  # who did the same has tied, whatever the last bit says
    seeds, error = len(gains), gains.std(ddof=1) / np.sqrt(len(gains))
    if error > 0:
        p_value = float(2 * stats.t.sf(abs(gains.mean()) / error, seeds - 1))
    else:
        p_value = float(gains.mean() == 0)
    return Difference(estimate(gains), p_value, float((1 + np.sign(gains)).mean() / 2), seeds)


def bootstrapped(values: ArrayLike) -> Estimate:
    """Mean and 95% percentile bootstrap interval of values that are drawn one by one, such as applicants: [n].

    Raises:
        InputError: NaN, or fewer than two values.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) < 2 or not np.isfinite(sample).all():
        raise InputError(f"an interval needs at least 2 finite values, but was given {list(sample.shape)}")
    ends = stats.bootstrap(
        (sample,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=10_000,
        batch=1000,  # at once in memory
        method="percentile",
        random_state=np.random.default_rng(BOOTSTRAP_SEED),
    ).confidence_interval
    return Estimate(float(sample.mean()), float(ends.low), float(ends.high))


def interquartile_mean(values: ArrayLike) -> Estimate:
    """Mean of the seed means between the quartiles and its 95% interval; outliers do not move it.

    A quarter of the seeds, rounded down, is left out at each end: of fewer than 4 none. Seeds are drawn again as in
    `hierarchical`. For 4 to 10 seeds the interval errs on the wide side: it missed the truth in 2 to 3% of normal
    samples.

    Args:
        values: [S, A], finite.

    Raises:
        InputError: NaN, not [seeds, applicants], or fewer than two seeds.
    """
    means = _matrix("values", values, "applicants").mean(axis=1)
    middle = float(stats.trim_mean(means, TRIMMED_SHARE))
    half = _half_width(stats.trim_mean(means[_draws(len(means))], TRIMMED_SHARE, axis=1), len(means))
    return Estimate(middle, middle - half, middle + half)


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Adjust p-values for their number, by Holm (1979, "A simple sequentially rejective multiple test procedure").

    Args:
        p_values: of each comparison, 0 to 1.

    Returns:
        The adjusted p-values in the order given; those at most 0.05 hold together at 5%.

    Raises:
        InputError: a p-value that is NaN or not 0 to 1.
    """
    # statsmodels' multipletests(method="holm") does this; it would be one more dependency for five lines.
    for key, p in p_values.items():
        if not 0 <= p <= 1:
            raise InputError(f"the p-value of {key} is {p:g}, it must be 0 to 1")
    adjusted: dict[K, float] = {}
    largest = 0.0
    for rank, key in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[key]))
        adjusted[key] = largest
    return {key: adjusted[key] for key in p_values}


def label_multiplier(ours: ArrayLike, control: ArrayLike, labels: ArrayLike) -> Estimate | None:
    """How many labels the control needs to reach what ours reaches, over the labels that ours has.

    Read off the mean curves, linear between budgets in log2(labels), as the geometric mean over all budgets but the
    lowest, where it could not fall below 1, and the highest, where it could not rise above 1. The control's curve
    is taken as the best it has reached so far. Budgets of 0 labels are left out.

    The table caps it: a control that never gets there is counted as needing the highest budget, one that was there
    from the start as needing the lowest. An end of the interval that equals the cap, of 50, 200, 1000 and 5000
    labels 11.2 or 1/8.9, means "or beyond". The 95% interval is over seeds, drawn again together for both arms, on
    the logarithm.

    Args:
        ours: [S, B], what ours reached, for each seed and budget.
        control: [S, B], the same seeds.
        labels: [B], rising; at least three above 0.

    Returns:
        The multiplier (its `mean` is geometric); None where the control is not seen to gain from labels, that is
        where the 95% interval of its gain from the lowest budget to the highest is not above 0.

    Raises:
        InputError: NaN, shapes that do not fit, fewer than two seeds, or budgets that do not rise or are too few.
    """
    budgets = _budgets(labels)
    arms = np.stack(_pair("budgets", ours=ours, control=control))
    if arms.shape[2] != len(budgets):
        raise InputError(f"ours and control have {arms.shape[2]} budgets, but labels names {len(budgets)}")
    arms, budgets = arms[:, :, budgets > 0], np.log2(budgets[budgets > 0])
    if estimate(arms[1, :, -1] - arms[1, :, 0]).low <= 0:
        return None
    seeds = arms.shape[1]
    middle = float(_log_multiplier(arms.mean(axis=1)[:, None], budgets)[0])
    half = _half_width(_log_multiplier(arms[:, _draws(seeds)].mean(axis=2), budgets), seeds)
    least, most = (float((end - budgets[1:-1]).mean()) for end in (budgets[0], budgets[-1]))
    return Estimate(2**middle, 2 ** max(middle - half, least), 2 ** min(middle + half, most))


def _log_multiplier(arms: Floats, budgets: Floats) -> Floats:
    """Curves [2 (ours, control), R, B] over log2 budgets [B] -> log2 multiplier [R]."""
    reached, control = arms[0, :, 1:-1], np.maximum.accumulate(arms[1], axis=1)
    # The first budget at which the control is there, and the one before it, [R, B - 2]; at the ends the nearest pair.
    upper = (control[:, None, :] < reached[:, :, None]).sum(axis=2).clip(1, len(budgets) - 1)
    low, high = (np.take_along_axis(control, place, axis=1) for place in (upper - 1, upper))
    share = np.divide(reached - low, high - low, out=(reached > low).astype(np.float64), where=high > low)
    needed = budgets[upper - 1] + share.clip(0, 1) * (budgets[upper] - budgets[upper - 1])
    multiplier: Floats = (needed - budgets[1:-1]).mean(axis=1)
    return multiplier


def _draws(seeds: int) -> NDArray[np.int64]:
    """Which seeds each replicate draws, int64 [REPLICATES, seeds]."""
    return np.random.default_rng(BOOTSTRAP_SEED).integers(seeds, size=(REPLICATES, seeds))


def _half_width(replicates: Floats, seeds: int) -> float:
    """Half of a 95% interval from replicates [R] of a figure of drawn seeds.

    Seeds drawn from a sample vary S / (S - 1) too little; Student's t pays for the few there are.
    """
    spread = replicates.std() * np.sqrt(seeds / (seeds - 1))
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1) * spread)


def _budgets(labels: ArrayLike) -> Floats:
    budgets = np.asarray(labels, dtype=np.float64)
    if budgets.ndim != 1 or not (np.isfinite(budgets).all() and (budgets >= 0).all() and (np.diff(budgets) > 0).all()):
        raise InputError(f"labels is {budgets.tolist()}, it must be rising numbers of labels, 0 or more")
    if (positive := int((budgets > 0).sum())) < 3:
        raise InputError(f"labels has {positive} budgets above 0, a label multiplier needs at least 3")
    return budgets


def _pair(columns: str, **arms: ArrayLike) -> tuple[Floats, Floats]:
    """Two named arms, checked, of one shape."""
    (one, left), (other, right) = ((name, _matrix(name, values, columns)) for name, values in arms.items())
    if left.shape != right.shape:
        shapes = f"{one} is {list(left.shape)}, but {other} is {list(right.shape)}"
        raise InputError(f"{shapes}: seeds and {columns} must agree")
    return left, right


def _matrix(name: str, values: ArrayLike, columns: str) -> Floats:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise InputError(f"{name} is {list(matrix.shape)}, it must be [seeds, {columns}] with at least one of each")
    if len(matrix) < 2:
        raise InputError(f"{name} has {len(matrix)} seed, an interval needs at least 2")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise InputError(f"{name} holds {matrix[row, column]} at seed row {row}, column {column} of its {columns}")
    return matrix
