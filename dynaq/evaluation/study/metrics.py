"""What is read off the rewards of a comparison: how warm the start was, how fast it learned, where it ended.

Rewards are float [seeds, steps], the mean over applicants at each step. A seed is the unit of replication:
every interval is Student's t over seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from dynaq.errors import InputError

CONFIDENCE = 0.95
ROUNDING = 1e-12  # a mean that equals the threshold has reached it, whatever the last bit says

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its 95% confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A mean over seeds at each step and its 95% band; the band of a single seed is NaN.

    Attributes:
        steps: int64 [m], counted from 1.
        mean: float64 [m].
        low: float64 [m].
        high: float64 [m].
    """

    steps: NDArray[np.int64]
    mean: Floats
    low: Floats
    high: Floats


def time_to_threshold(
    rewards: ArrayLike, random: ArrayLike, optimum: ArrayLike, *, window: int, share: float
) -> tuple[int | None, ...]:
    """The step, counted from 1, from which each seed held the threshold; None = censored, not observed to.

    It is held from the first step t on for which the trailing means of steps t to t + window - 1 all are at least
    random + share x (optimum - random), averaged over the same steps. So whether it is held can be told of the first
    steps - window + 1 only.

    Args:
        rewards: [seeds, steps] of the arm.
        random: [seeds, steps], reward of showing random candidates.
        optimum: [seeds, steps], reward of showing the best candidates.
        window: steps of the trailing mean (the first steps: all there are so far), and of the time it is held.
        share: in [0, 1], of the way from random to the optimum.

    Raises:
        InputError: NaN, arrays that do not fit, a mean optimum below random, or a setting out of range.
    """
    given = _matrix("rewards", rewards)
    low, high = _matrix("random", random), _matrix("optimum", optimum)
    for name, reference in (("random", low), ("optimum", high)):
        if reference.shape != given.shape:
            raise InputError(f"{name} is {_size(reference)}, but rewards is {_size(given)}: seeds and steps must agree")
    if high.mean() < low.mean() - ROUNDING:
        raise InputError(f"optimum {high.mean():g} lies below random {low.mean():g} on average: are they swapped?")
    steps = given.shape[1]
    if not 1 <= window <= steps:
        raise InputError(f"window is {window}, it must be 1 to the number of steps, {steps}")
    if not 0 <= share <= 1:
        raise InputError(f"share is {share:g}, it must be 0 to 1")
    threshold = low + share * (high - low)
    above = _trailing(given, window) >= _trailing(threshold, window) - ROUNDING
    held = np.asarray(sliding_window_view(above, window, axis=1).all(axis=-1))
    return tuple(int(row.argmax()) + 1 if row.any() else None for row in held)


def estimate(values: ArrayLike) -> Estimate:
    """Mean and 95% t-interval of values [seeds].

    Raises:
        InputError: fewer than two seeds, NaN, or not one value a seed.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) < 2:
        raise InputError(f"an interval needs one value for each of at least 2 seeds, but was given {_size(sample)}")
    mean, half = _t_interval(_matrix("values", sample[:, None]))
    return Estimate(float(mean[0]), float(mean[0] - half[0]), float(mean[0] + half[0]))


def learning_curve(rewards: ArrayLike, window: int) -> Curve:
    """Trailing mean over `window` steps, averaged over seeds, with its 95% band.

    The first steps average what there is so far, so that the curve starts at the first reward.

    Args:
        rewards: [seeds, steps].
        window: 1 or more.

    Raises:
        InputError: NaN, not [seeds, steps], or no window.
    """
    given = _matrix("rewards", rewards)
    if window < 1:
        raise InputError(f"window is {window}, it must be at least 1")
    mean, half = _t_interval(_trailing(given, window))
    return Curve(np.arange(1, given.shape[1] + 1), mean, mean - half, mean + half)


def _trailing(values: Floats, window: int) -> Floats:
    """Mean over the last `window` steps, of the first steps over those there are so far: [seeds, steps], the same."""
    steps = values.shape[1]
    return np.stack([values[:, max(0, end - window) : end].mean(axis=1) for end in range(1, steps + 1)], axis=1)


def _t_interval(values: Floats) -> tuple[Floats, Floats]:
    """Mean and half width of the interval over seeds, [seeds, m] -> [m], [m]; one seed has no width: NaN."""
    seeds = len(values)
    mean = values.mean(axis=0)
    if seeds == 1:
        return mean, np.full_like(mean, np.nan)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1) * values.std(axis=0, ddof=1) / np.sqrt(seeds)
    return mean, half


def _matrix(name: str, values: ArrayLike) -> Floats:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise InputError(f"{name} is {_size(matrix)}, it must be [seeds, steps] with at least one of each")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise InputError(f"{name} holds {matrix[row, column]} at seed row {row}, step {column + 1}")
    return matrix


def _size(values: NDArray[np.float64]) -> str:
    return f"[{', '.join(map(str, values.shape))}]"
