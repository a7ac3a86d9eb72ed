"""Replay buffer: a ring of indices, 21 bytes a transition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Transitions:
    """A batch of B transitions (s, a, r, s', A'): the state is the applicant's, and A' is drawn from its seed.

    Attributes:
        applicants: int64 [B], rows of the snapshot.
        jobs: int64 [B], the jobs shown.
        rewards: float32 [B], never NaN.
        next_seeds: int64 [B], seeds of the next candidate sets.
        terminated: bool [B]; a terminated session has no next state, a truncated one has.
    """

    applicants: Tensor
    jobs: Tensor
    rewards: Tensor
    next_seeds: Tensor
    terminated: Tensor


class ReplayBuffer:
    """Ring buffer with uniform sampling (Lin 1992); the oldest transition gives way when it is full."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        self._next = 0
        self._applicants = torch.zeros(capacity, dtype=torch.int32)
        self._jobs = torch.zeros(capacity, dtype=torch.int32)
        self._rewards = torch.zeros(capacity)
        self._next_seeds = torch.zeros(capacity, dtype=torch.int64)
        self._terminated = torch.zeros(capacity, dtype=torch.bool)

    def add(self, batch: Transitions) -> Tensor:
        """Append transitions, leaving out those without a reward (NaN).

        Returns:
            int64 [number kept]: the slots written.
        """
        kept = (~torch.isnan(batch.rewards)).nonzero().squeeze(1)[-self.capacity :]
        slots = (self._next + torch.arange(len(kept))) % self.capacity
        self._applicants[slots] = batch.applicants[kept].int()
        self._jobs[slots] = batch.jobs[kept].int()
        self._rewards[slots] = batch.rewards[kept]
        self._next_seeds[slots] = batch.next_seeds[kept]
        self._terminated[slots] = batch.terminated[kept]
        self._next = (self._next + len(kept)) % self.capacity
        self.size = min(self.size + len(kept), self.capacity)
        return slots

    def sample(self, batch_size: int, generator: torch.Generator) -> Transitions:
        """Draw uniformly with replacement; the buffer must not be empty."""
        return self.at(torch.randint(self.size, (batch_size,), generator=generator))

    def newest(self, count: int) -> Transitions:
        """The last transitions added, at most ``count``."""
        count = min(count, self.size)
        return self.at((self._next - count + torch.arange(count)) % self.capacity)

    def at(self, slots: Tensor) -> Transitions:
        """The transitions in the given slots, int64 [B]."""
        return Transitions(
            self._applicants[slots].long(),
            self._jobs[slots].long(),
            self._rewards[slots],
            self._next_seeds[slots],
            self._terminated[slots],
        )
