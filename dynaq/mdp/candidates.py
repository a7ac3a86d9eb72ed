"""Candidate sets from seeds: a set of next candidates is remembered as eight bytes, and drawn again when needed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio as a signed int64: the increment of splitmix64


def mix(x: Tensor) -> Tensor:
    """Finaliser of splitmix64 (Steele, Lea & Flood 2014) on int64, wrapping as uint64 would."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


class CandidateSampler:
    """Draws n distinct jobs of the catalogue from an int64 seed, the same ones every time.

    A set is an arithmetic progression modulo the catalogue's size, start and stride taken from the hashed seed and
    the stride coprime to the size: distinct by construction, every job equally likely, no rejection, n additions.
    Once n reaches the catalogue's size the whole catalogue is the candidate set, in its own order.

    Args:
        catalogue_size: number of jobs M.
        n: candidates in a set; sets are no larger than the catalogue.
        jobs: int64 [M], their rows in the snapshot where the catalogue is a part of it; 0 to M - 1 if not given.
    """

    def __init__(self, catalogue_size: int, n: int, jobs: Tensor | None = None) -> None:
        self.catalogue_size = catalogue_size
        self.jobs = torch.arange(catalogue_size) if jobs is None else jobs
        self.n = min(n, catalogue_size)
        strides = [k for k in range(1, catalogue_size) if math.gcd(k, catalogue_size) == 1] or [1]
        self._strides = torch.tensor(strides)

    def draw(self, seeds: Tensor) -> Tensor:
        """Candidate sets: seeds int64 [B] -> job rows int64 [B, n]."""
        if self.n == self.catalogue_size:
            return self.jobs.expand(len(seeds), -1)
        positions = torch.arange(self.n)
        first = mix(seeds + _GOLDEN)
        start = first % self.catalogue_size
        stride = self._strides[mix(first + _GOLDEN) % len(self._strides)]
        return self.jobs[(start[:, None] + stride[:, None] * positions) % self.catalogue_size]

    def uniform(self, count: int, generator: torch.Generator) -> Tensor:
        """Jobs drawn with replacement: int64 [count]."""
        return self.jobs[torch.randint(self.catalogue_size, (count,), generator=generator)]


def fresh_seeds(count: int, generator: torch.Generator) -> Tensor:
    """New seeds of candidate sets: int64 [count]."""
    return torch.randint(-(2**63), 2**63 - 1, (count,), generator=generator)
