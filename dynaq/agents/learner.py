"""What the learning loop asks of whoever learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from dynaq.protocols import Recommender


@dataclass(frozen=True)
class UpdateLosses:
    """Mean squared TD error of one update, and the planning steps it took."""

    q: float
    planning_steps: int


class Learner(Recommender, Protocol):
    """An agent, or a policy that agents are compared with."""

    @property
    def skill(self) -> float:
        """Held-out skill of its world model; NaN if it has none."""
        ...

    @property
    def piloting(self) -> bool:
        """Whether it still collects answers before it learns from them."""
        ...

    def act(self, applicants: Tensor, candidates: Tensor, epsilon: float) -> Tensor:
        """Slates, epsilon-greedily: int64 [B], [B, n] -> int64 [B, k]."""
        ...

    def remember(self, applicants: Tensor, jobs: Tensor, rewards: Tensor, uniform: Tensor | None = None) -> None:
        """Take note of answers: int64 [L], [L], float32 [L], NaN where there is none; bool [L], see acquisition.py."""
        ...

    def update(self) -> UpdateLosses | None:
        """Learn from what is remembered; None if there is nothing to do."""
        ...
