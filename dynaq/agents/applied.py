"""Jobs that applicants have applied to: they are candidates no more."""

from __future__ import annotations

import torch
from torch import Tensor


class AppliedJobs:
    """A growing set of (applicant, job) pairs.

    Args:
        catalogue_size: number of jobs.
    """

    def __init__(self, catalogue_size: int) -> None:
        self._catalogue_size = catalogue_size
        self.pairs = torch.empty(0, dtype=torch.int64)  # sorted: applicant * catalogue size + job

    def add(self, applicants: Tensor, jobs: Tensor) -> None:
        """Add pairs, int64 [L], [L]."""
        self.pairs = torch.unique(torch.cat([self.pairs, applicants * self._catalogue_size + jobs]))

    def contains(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Which candidates were applied to: int64 [B], [B, n] -> bool [B, n]."""
        asked = applicants[:, None] * self._catalogue_size + jobs
        if not len(self.pairs):
            return torch.zeros(asked.shape, dtype=torch.bool)
        place = torch.searchsorted(self.pairs, asked).clamp(max=len(self.pairs) - 1)
        return self.pairs[place] == asked
