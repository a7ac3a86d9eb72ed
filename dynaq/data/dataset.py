"""Pairs of a snapshot as batches of tensors, for whoever learns by supervision."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dynaq.data.snapshot import Snapshot
from dynaq.errors import InputError

Batch = tuple[Tensor, Tensor, Tensor]


class PairDataset(Dataset[Batch]):
    """(state, action, reward) of pairs of row indices into a snapshot, gathered a batch at a time."""

    def __init__(
        self,
        snapshot: Snapshot,
        applicants: NDArray[np.integer[Any]],
        jobs: NDArray[np.integer[Any]],
        rewards: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """Check and keep the pairs; their vectors stay on disk.

        Args:
            snapshot: where the vectors lie.
            applicants: row of the applicant of each pair, integers [n].
            jobs: row of the job of each pair, integers [n].
            rewards: reward of each pair, float [n]; without it every reward is NaN, "no value".

        Raises:
            InputError: the arrays differ in length, or an index is no row of the snapshot.
        """
        if rewards is None:
            rewards = np.full(len(applicants), np.nan, dtype=np.float32)
        if not applicants.shape == jobs.shape == rewards.shape == (len(applicants),):
            raise InputError(
                "pairs need one applicant, one job and one reward each, given are arrays of shape"
                f" {applicants.shape}, {jobs.shape} and {rewards.shape}"
            )
        for side, rows, bound in (
            ("applicant", applicants, len(snapshot.applicants)),
            ("job", jobs, len(snapshot.jobs)),
        ):
            outside = rows[(rows < 0) | (rows >= bound)]
            if outside.size:
                raise InputError(f"{side} row {outside[0]} is none of the snapshot's rows 0 to {bound - 1}")
        self.snapshot = snapshot
        self.applicants = applicants
        self.jobs = jobs
        self.rewards = torch.from_numpy(rewards.astype(np.float32))

    def __len__(self) -> int:
        """Number of pairs n."""
        return len(self.applicants)

    def __getitem__(self, index: int) -> Batch:
        """One pair: state [S], action [A], reward []."""
        states, actions, rewards = self.__getitems__([index])
        return states[0], actions[0], rewards[0]

    def __getitems__(self, indices: list[int]) -> Batch:
        """A batch of pairs: states [B, S], actions [B, A], rewards [B]."""
        states = np.asarray(self.snapshot.applicants)[self.applicants[indices]]
        actions = np.asarray(self.snapshot.jobs)[self.jobs[indices]]
        return torch.from_numpy(states), torch.from_numpy(actions), self.rewards[indices]


def pair_loader(dataset: PairDataset, batch_size: int, seed: int, workers: int) -> DataLoader[Batch]:
    """Shuffled batches, float32 [B, S], [B, A], [B]: the same for a seed, with any number of workers."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
        num_workers=workers,
        worker_init_fn=partial(_seed_worker, seed),
        collate_fn=_gathered,
    )


def _gathered(batch: Any) -> Any:
    """What the dataset returns is a batch already, nothing is left to collate."""
    return batch


def _seed_worker(seed: int, worker: int) -> None:
    random.seed(seed + worker)
    np.random.seed((seed + worker) % 2**32)
    torch.manual_seed(seed + worker)
