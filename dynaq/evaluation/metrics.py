"""What is read off the rewards of a comparison: how warm the start was, how fast it learned, where it ended.

Rewards are float [seeds, steps], the mean over applicants at each step. A seed is the unit of replication:
every interval is Student's t over seeds, and arms that met the same seeds are compared by their paired
differences.
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


@dataclass(frozen=True)
class ArmMetrics:
    """The figures of one arm, one value a seed.

    Attributes:
        cumulative_reward: float64 [seeds], summed over steps.
        average_reward: float64 [seeds], per step.
        jump_start: float64 [seeds], mean reward of the first steps, before learning can matter much.
        late_performance: float64 [seeds], mean reward of the last share of the steps.
        time_to_threshold: the step, counted from 1, that first reached the threshold; None = censored, not
            within `horizon` steps, which is no time at all and must not be averaged.
        horizon: steps observed.
    """

    cumulative_reward: Floats
    average_reward: Floats
    jump_start: Floats
    late_performance: Floats
    time_to_threshold: tuple[int | None, ...]
    horizon: int

    @property
    def reached_share(self) -> float:
        """Share of seeds that reached the threshold."""
        return sum(time is not None for time in self.time_to_threshold) / len(self.time_to_threshold)

    @property
    def median_time(self) -> float | None:
        """Median step to the threshold; None where too many seeds are censored for it to be known."""
        median = float(np.median([np.inf if time is None else time for time in self.time_to_threshold]))
        return median if np.isfinite(median) else None


def measure(
    rewards: ArrayLike,
    random: ArrayLike,
    optimum: ArrayLike,
    *,
    jump_steps: int,
    window: int,
    threshold_share: float,
    late_share: float,
) -> ArmMetrics:
    """Measure one arm.

    The threshold is reached at the first step t at which the mean reward of steps t - window + 1 to t is at
    least random + threshold_share x (optimum - random) averaged over the same steps; never before `window`.

    Args:
        rewards: [seeds, steps] of the arm.
        random: [seeds, steps], expected reward of showing random candidates.
        optimum: [seeds, steps], expected reward of showing the best candidates.
        jump_steps: how many first steps make the jump-start.
        window: steps of the trailing mean.
        threshold_share: in [0, 1], of the way from random to the optimum.
        late_share: in (0, 1], of the steps at the end (rounded up).

    Raises:
        InputError: NaN, arrays that do not fit, an optimum below random, or a setting out of range.
    """
    given = _matrix("rewards", rewards)
    low, high = _matrix("random", random), _matrix("optimum", optimum)
    for name, reference in (("random", low), ("optimum", high)):
        if reference.shape != given.shape:
            raise InputError(f"{name} is {_size(reference)}, but rewards is {_size(given)}: seeds and steps must agree")
    if (high < low - ROUNDING).any():
        seed, step = np.argwhere(high < low - ROUNDING)[0]
        raise InputError(
            f"optimum {high[seed, step]:g} lies below random {low[seed, step]:g} at seed row {seed}, step"
            f" {step + 1}: are they swapped?"
        )
    steps = given.shape[1]
    for name, count in (("jump_steps", jump_steps), ("window", window)):
        if not 1 <= count <= steps:
            raise InputError(f"{name} is {count}, it must be 1 to the number of steps, {steps}")
    if not 0 <= threshold_share <= 1:
        raise InputError(f"threshold_share is {threshold_share:g}, it must be 0 to 1")
    if not 0 < late_share <= 1:
        raise InputError(f"late_share is {late_share:g}, it must be above 0 and at most 1")

    threshold = low + threshold_share * (high - low)
    reached = _full_windows(given, window) >= _full_windows(threshold, window) - ROUNDING
    return ArmMetrics(
        cumulative_reward=given.sum(axis=1),
        average_reward=given.mean(axis=1),
        jump_start=given[:, :jump_steps].mean(axis=1),
        late_performance=given[:, -int(np.ceil(late_share * steps - ROUNDING)) :].mean(axis=1),
        time_to_threshold=tuple(int(row.argmax()) + window if row.any() else None for row in reached),
        horizon=steps,
    )


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


def paired_difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Mean of first - second and its 95% t-interval; both [seeds], the same seeds in the same order.

    Raises:
        InputError: different numbers of seeds, fewer than two, or NaN.
    """
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if left.shape != right.shape:
        raise InputError(
            f"a paired difference needs the same seeds on both sides, not {_size(left)} and {_size(right)}"
        )
    return estimate(left - right)


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
    steps = given.shape[1]
    first = np.array([given[:, :end].mean(axis=1) for end in range(1, min(window, steps + 1))])
    trailing = first.reshape(-1, len(given)).T
    if window <= steps:
        trailing = np.concatenate([trailing, _full_windows(given, window)], axis=1)
    mean, half = _t_interval(trailing)
    return Curve(np.arange(1, steps + 1), mean, mean - half, mean + half)


def _full_windows(values: Floats, window: int) -> Floats:
    """Means over each run of `window` steps: [seeds, steps] -> [seeds, steps - window + 1]."""
    means: Floats = sliding_window_view(values, window, axis=1).mean(axis=-1)
    return means


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
