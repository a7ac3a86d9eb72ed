"""Any job: the floor."""

from __future__ import annotations

import torch
from torch import Tensor

from dynaq.agents.controls.control import Control


class RandomChoice(Control):
    """Scores candidates at random, anew each time it is asked, and learns nothing.

    Args:
        slate, seed: as of Control.
    """

    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Uniform numbers: int64 [B], [B, n] -> float32 [B, n] in [0, 1)."""
        return torch.rand(jobs.shape, generator=self.generator)
