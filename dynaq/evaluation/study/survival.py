"""How long it took to get there, when some never did: Kaplan-Meier curves of the time to a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dynaq.errors import InputError
from dynaq.evaluation.study.metrics import ROUNDING, Floats


@dataclass(frozen=True)
class Survival:
    """Which share of the seeds has not yet reached the threshold.

    Attributes:
        steps: int64 [horizon], counted from 1.
        not_reached: float64 [horizon], the survival function after each step.
        median: the first step after which at most half the seeds are left; None where fewer than half reached it.
        restricted_mean: mean steps to the threshold or the horizon, whichever is first: the area under the curve.
        reached_share: of the seeds, within the horizon.
    """

    steps: NDArray[np.int64]
    not_reached: Floats
    median: int | None
    restricted_mean: float
    reached_share: float


def survival(times: Sequence[int | None], horizon: int) -> Survival:
    """Kaplan-Meier estimate for seeds that were all watched for `horizon` steps.

    Args:
        times: the step, counted from 1, at which each seed reached the threshold; None = not within the horizon.
        horizon: steps observed, 1 or more.

    Raises:
        InputError: a time or horizon out of range, or fewer than two seeds.
    """
    last = _watched(times, horizon)
    # lifelines' KaplanMeierFitter draws the same curve, and brings pandas plots and regressions nobody needs here.
    observed = stats.CensoredData.right_censored(last, [time is None for time in times])
    steps = np.arange(1, horizon + 1)
    not_reached = np.asarray(stats.ecdf(observed).sf.evaluate(steps), dtype=np.float64)
    half_left = np.flatnonzero(not_reached <= 0.5 + ROUNDING)
    return Survival(
        steps=steps,
        not_reached=not_reached,
        median=int(steps[half_left[0]]) if len(half_left) else None,
        restricted_mean=float(1 + not_reached[:-1].sum()),  # nobody gets there before the first step
        reached_share=float(1 - not_reached[-1]),
    )


def _watched(times: Sequence[int | None], horizon: int) -> Floats:
    """Until which step each seed was watched: float64 [seeds]."""
    if horizon < 1:
        raise InputError(f"horizon is {horizon}, it must be at least 1 step")
    if len(times) < 2:
        raise InputError(f"times to a threshold were given for {len(times)} seed, they need at least 2")
    for seed, time in enumerate(times):
        if time is not None and not 1 <= time <= horizon:
            raise InputError(f"the time of seed row {seed} is {time}, it must be 1 to the horizon, {horizon}, or None")
    return np.array([horizon if time is None else time for time in times], dtype=np.float64)
