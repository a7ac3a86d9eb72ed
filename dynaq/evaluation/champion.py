"""Whether a challenger takes the champion's place: only with evidence, and the reason is told either way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dynaq.agents.arms import WARM_STARTS
from dynaq.errors import InputError
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.online import OnlineRun
from dynaq.evaluation.study.statistics import Difference, paired
from dynaq.evaluation.study.study import Study

Rival = Literal["champion", "baseline"]


@dataclass(frozen=True)
class Decision:
    """What becomes of a challenger, and a sentence that says why."""

    promote: bool
    reason: str


def decide(challenger: str, rival: Rival, lead: Difference, margin: float, *, same_weights: bool = False) -> Decision:
    """Promote a challenger whose lead over its rival lies above what is asked with its whole interval.

    The whole interval: a champion that is better by chance would be replaced every other night.

    Args:
        challenger: its name, for the sentence.
        rival: the champion, whom it must beat by the margin; the baseline where there is no champion yet, whom any
            lead beats.
        lead: challenger - rival, in reward per step, paired over the markets of the title match.
        margin: at least 0, in the same unit.
        same_weights: challenger and champion are one checkpoint, whatever the lead.

    Raises:
        InputError: a margin below 0, or a number that is none.
    """
    if not (math.isfinite(margin) and margin >= 0):
        raise InputError(f"the margin of a champion is {margin:g}, it must be at least 0")
    if same_weights:
        return Decision(False, f"{challenger} is the champion already: its weights are the same")
    ahead = lead.difference
    if not (math.isfinite(ahead.low) and math.isfinite(ahead.high)):
        raise InputError(
            f"{challenger} is {ahead.mean:g} [{ahead.low:g}, {ahead.high:g}] ahead of the {rival}:"
            " without an interval there is no decision"
        )
    asked, bound = (margin, f"the margin of {margin:g}") if rival == "champion" else (0.0, "0")
    promote = ahead.low > asked
    return Decision(
        promote,
        f"{challenger} is {ahead.mean:+.4f} [{ahead.low:+.4f}, {ahead.high:+.4f}] ahead of the {rival} in {lead.seeds}"
        f" fresh markets, which {'lies' if promote else 'does not lie'} above {bound}",
    )


def find_winner(study: Study, gamma: float) -> Contestant | None:
    """Of the agents that are shown to earn more than the baseline at a discount, the one that earned most, if any.

    Shown: the 95% interval of the paired difference lies above zero, and its p-value is at most 0.05 after Holm's
    correction, as in the report's verdict.
    """
    rows = [row for row in study.rows if row.contestant.kind in WARM_STARTS and row.contestant.gamma == gamma]
    best = max((row for row in rows if row.pays), key=lambda row: row.average.mean, default=None)
    return best.contestant if best else None


def lead_over(rival: Rival, runs: Sequence[OnlineRun]) -> Difference:
    """Paired difference of the challenger's average reward to its rival's in the markets of the title match."""
    return paired(_averages(runs, "challenger"), _averages(runs, rival))


def _averages(runs: Sequence[OnlineRun], kind: str) -> NDArray[np.float64]:
    """Mean reward of each applicant: float64 [S, A], seeds in order."""
    chosen = sorted((run for run in runs if run.contestant.kind == kind), key=lambda run: run.seed)
    return np.array([run.rewards.mean(axis=0, dtype=np.float64) for run in chosen])
