"""What the controls share: they are asked and answered as the Dyna-Q agent is."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from dynaq.agents.exploration import epsilon_greedy
from dynaq.agents.learner import Learner, UpdateLosses
from dynaq.errors import InputError


class Control(Learner):
    """A policy that shows what it scores highest, but for the places where it explores.

    Args:
        slate: jobs shown at a step.
        seed: of every draw.

    Raises:
        InputError: the slate has no place.
    """

    def __init__(self, slate: int, seed: int) -> None:
        if slate < 1:
            raise InputError(f"the slate is {slate}: at least 1 job must be shown")
        self.slate = slate
        self.generator = torch.Generator().manual_seed(seed)

    @abstractmethod
    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Score candidates: applicants int64 [B], jobs int64 [B, n] -> float32 [B, n], larger is better."""

    def act(self, applicants: Tensor, candidates: Tensor, epsilon: float) -> Tensor:
        """Epsilon-greedy slates: int64 [B], [B, n] -> jobs int64 [B, k], at most n of them."""
        return self._slates(self.scores(applicants, candidates), candidates, epsilon)

    def _slates(self, scores: Tensor, candidates: Tensor, epsilon: float) -> Tensor:
        k = min(self.slate, candidates.shape[1])
        return candidates.gather(1, epsilon_greedy(scores, k, epsilon, self.generator))

    def remember(self, applicants: Tensor, jobs: Tensor, rewards: Tensor, uniform: Tensor | None = None) -> None:
        """Hear answers int64 [L], [L], float32 [L], NaN where there is none; nothing is made of them by default.

        ``uniform`` is for those who ask for a reason; a control takes all answers alike.
        """

    def update(self) -> UpdateLosses | None:
        """Learn from what is remembered; None where that happens at once or never."""
        return None

    @property
    def skill(self) -> float:
        """NaN: there is no world model."""
        return math.nan

    @property
    def piloting(self) -> bool:
        """False: a control never waits for answers."""
        return False


def heard(applicants: Tensor, jobs: Tensor, rewards: Tensor, among: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Answers int64 [L], [L], float32 [L] without those that are missing (NaN).

    Args:
        applicants, jobs, rewards: what was shown to whom, and the answer.
        among: number of applicants and of jobs that there are.

    Raises:
        InputError: the three are not of one length, a row is not among them, or a reward is infinite.
    """
    if not applicants.shape == jobs.shape == rewards.shape or rewards.ndim != 1:
        shapes = [list(part.shape) for part in (applicants, jobs, rewards)]
        raise InputError(f"answers must be three lists of one length, found {shapes[0]}, {shapes[1]} and {shapes[2]}")
    for kind, rows, count in zip(("applicant", "job"), (applicants, jobs), among, strict=True):
        strange = rows[(rows < 0) | (rows >= count)]
        if len(strange):
            raise InputError(f"{kind} row {int(strange[0])} was answered for, but there are {count}: rows begin at 0")
    if rewards.isinf().any():
        raise InputError("a reward is infinite: give a number, or NaN where there is no answer")
    kept = ~rewards.isnan()
    return applicants[kept], jobs[kept], rewards[kept]
