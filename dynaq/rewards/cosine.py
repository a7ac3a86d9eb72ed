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
        self._applicants, self._jobs = np.asarray(snapshot.applicants), np.asarray(snapshot.jobs)  # mapped, not read
        if manifest.cosine.kind == "pairs":
            self._parts = [
                (snapshot.field_slice("applicants", a), snapshot.field_slice("jobs", j))
                for a, j in manifest.cosine.pairs
            ]
        else:
            self._parts = [(slice(None), slice(None))]

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Rewards of pairs, int64 [B], [B] -> float32 [B] in [-1, 1]."""
        states, actions = (
            torch.from_numpy(rows[chosen.numpy()])
            for rows, chosen in ((self._applicants, applicants), (self._jobs, jobs))
        )
        similarities = [F.cosine_similarity(states[:, a], actions[:, j], dim=1) for a, j in self._parts]
        return torch.stack(similarities).mean(0)
