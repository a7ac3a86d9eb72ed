"""Whether a challenger takes the champion's place: only with evidence, and the reason is told either way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynaq.agents.arms import WARM_STARTS
from dynaq.errors import InputError
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.online import OnlineRun
from dynaq.evaluation.study.metrics import Estimate
from dynaq.evaluation.study.statistics import paired
from dynaq.evaluation.study.study import LEVEL, Row, Study


@dataclass(frozen=True)
class Decision:
    """What becomes of a challenger, and a sentence that says why."""

    promote: bool
    reason: str


def decide(challenger: str, difference: Estimate | None, margin: float, *, same_weights: bool = False) -> Decision:
    """Promote a challenger whose lead over the champion lies above the margin with its whole interval.

    The whole interval: a champion that is better by chance would be replaced every other night.

    Args:
        challenger: its name, for the sentence.
        difference: challenger - champion, in reward per step, paired over the seeds of one evaluation; None where
            there is no champion yet.
        margin: at least 0, in the same unit.
        same_weights: the two are one checkpoint, whatever the difference.

    Raises:
        InputError: a margin below 0, or a number that is none.
    """
    if not (math.isfinite(margin) and margin >= 0):
        raise InputError(f"the margin of a champion is {margin:g}, it must be at least 0")
    if same_weights:
        return Decision(False, f"{challenger} is the champion already: its weights are the same")
    if difference is None:
        return Decision(True, f"{challenger} is the first: there was no champion to compare it with")
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        raise InputError(
            f"{challenger} is {difference.mean:g} [{difference.low:g}, {difference.high:g}] ahead of the champion:"
            " without an interval there is no decision"
        )
    ahead = (
        f"{challenger} is {difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] ahead of the champion"
    )
    if difference.low > margin:
        return Decision(True, f"{ahead}, which lies above the margin of {margin:g}")
    return Decision(False, f"{ahead}, which does not lie above the margin of {margin:g}")


def find_winner(study: Study, gamma: float) -> Contestant | None:
    """Of the agents that are shown to earn more than the baseline at a discount, the one that earned most, if any.

    Shown: the 95% interval of the paired difference lies above zero, and its p-value is at most 0.05 after Holm's
    correction, as in the report's verdict.
    """
    rows = [row for row in study.rows if row.contestant.kind in WARM_STARTS and row.contestant.gamma == gamma]
    best = max(filter(_is_shown, rows), key=lambda row: row.average.mean, default=None)
    return best.contestant if best else None


def _is_shown(row: Row) -> bool:
    return row.gain is not None and row.gain.difference.low > 0 and row.adjusted is not None and row.adjusted <= LEVEL


def lead_over_champion(runs: Sequence[OnlineRun]) -> Estimate | None:
    """Paired difference of the challenger's average reward to the champion's; None where there is no champion."""
    averages = {kind: _averages(runs, kind) for kind in ("challenger", "champion")}
    if not len(averages["champion"]):
        return None
    return paired(averages["challenger"], averages["champion"]).difference


def _averages(runs: Sequence[OnlineRun], kind: str) -> NDArray[np.float64]:
    """Mean reward of each applicant: float64 [S, A], seeds in order."""
    chosen = sorted((run for run in runs if run.contestant.kind == kind), key=lambda run: run.seed)
    return np.array([run.rewards.mean(axis=0, dtype=np.float64) for run in chosen])
