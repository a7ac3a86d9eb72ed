"""The few seams where parts are exchanged: an encoder, a reward, free or paid for, a recommender."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Encoder(Protocol):
    """Text to vectors."""

    name: str
    dimension: int

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: float32 [len(texts), dimension], one row a text, in the order given."""
        ...


class RewardSource(Protocol):
    """A plain batch function from pairs to rewards."""

    name: str

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Rewards of pairs of row indices into the snapshot.

        Args:
            applicants: int64 [B].
            jobs: int64 [B].

        Returns:
            float32 [B]; NaN where there is no value (a missing label), to be masked, never guessed.
        """
        ...


class PaidReward(RewardSource, Protocol):
    """One that remembers what it was asked, and what that has cost."""

    def tensors(self) -> dict[str, Tensor]:
        """What it remembers, by name."""
        ...

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave."""
        ...


class Recommender(Protocol):
    """Whatever can order jobs for applicants."""

    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Score candidates: applicants int64 [B], jobs int64 [B, n] -> float32 [B, n], larger is better."""
        ...
