"""The free reward itself: what a warm start on it has to beat."""

from __future__ import annotations

from torch import Tensor

from dynaq.agents.controls.control import Control
from dynaq.protocols import RewardSource


class RawCosine(Control):
    """Scores candidates by the cosine reward and learns nothing.

    Args:
        cosine: gives the cosine of pairs.
        slate, seed: as of Control.
    """

    def __init__(self, cosine: RewardSource, slate: int, seed: int) -> None:
        super().__init__(slate, seed)
        self._cosine = cosine

    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Cosines: int64 [B], [B, n] -> float32 [B, n]."""
        return self._cosine(applicants.repeat_interleave(jobs.shape[1]), jobs.flatten()).reshape(jobs.shape)
