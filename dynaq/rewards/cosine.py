"""Cosine similarity of applicant and job vectors: the free reward."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dynaq.data.snapshot import Snapshot


class CosineReward:
    """Mean cosine over (applicant field, job field) pairs, or the cosine of the two concatenations.

    Which of the two is written in the snapshot's manifest: concatenations of unequal sizes have no cosine.
    """

    name = "cosine"

    def __init__(self, snapshot: Snapshot) -> None:
        manifest = snapshot.manifest
        self._applicants = torch.tensor(np.asarray(snapshot.applicants))
        self._jobs = torch.tensor(np.asarray(snapshot.jobs))
        if manifest.cosine.kind == "pairs":
            d = manifest.dimension
            self._parts = [
                (_columns(manifest.applicant_fields, a, d), _columns(manifest.job_fields, j, d))
                for a, j in manifest.cosine.pairs
            ]
        else:
            self._parts = [(slice(None), slice(None))]

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Rewards of pairs, int64 [B], [B] -> float32 [B] in [-1, 1]."""
        similarities = [
            F.cosine_similarity(self._applicants[applicants, a], self._jobs[jobs, j], dim=1) for a, j in self._parts
        ]
        return torch.stack(similarities).mean(0)


def _columns(fields: list[str], field: str, dimension: int) -> slice:
    start = fields.index(field) * dimension
    return slice(start, start + dimension)
