"""The MDP: applicants arrive, jobs are drawn as candidates, some are shown, each answer is a reward.

State: the applicant. Action: one of n sampled candidates (a slate of k of them is k transitions). The state stays as
it is, s' = s, and the next candidates are drawn anew, so Q*(s, a) = R(s, a) + gamma / (1 - gamma) * E[max R(s, A')].
Sessions never terminate: the task is continuing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dynaq.mdp.candidates import CandidateSampler, fresh_seeds
from dynaq.protocols import PaidReward, RewardSource


@dataclass(frozen=True)
class Observation:
    """What B applicants face at one step: applicants int64 [B], candidates int64 [B, n]."""

    applicants: Tensor
    candidates: Tensor


class Environment(Protocol):
    """A world that many applicants step through at once."""

    def observe(self, step: int) -> Observation:
        """The applicants of a step and their candidates."""
        ...

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Answers to the jobs shown, int64 [L], [L] -> float32 [L], NaN where there is none."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What changes in it, by name."""
        ...

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave."""
        ...


class TrainingEnvironment:
    """Applicants drawn from a pool, with a simulated reward.

    Args:
        reward: answers for the applicant.
        pool: int64, rows of the applicants that may be trained on.
        applicants_per_step: how many step at once; the whole pool if it holds fewer.
        sampler: draws their candidates.
        generator: draws applicants and candidate sets.
    """

    def __init__(
        self,
        reward: RewardSource,
        pool: Tensor,
        applicants_per_step: int,
        sampler: CandidateSampler,
        generator: torch.Generator,
    ) -> None:
        self._reward = reward
        self._pool = pool
        self.applicants_per_step = min(applicants_per_step, len(pool))
        self._sampler = sampler
        self._generator = generator

    def observe(self, step: int) -> Observation:
        """Distinct applicants of the pool, each with fresh candidates."""
        chosen = torch.randperm(len(self._pool), generator=self._generator)[: self.applicants_per_step]
        return Observation(self._pool[chosen], self._sampler.draw(fresh_seeds(len(chosen), self._generator)))

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        """The simulated reward; it does not depend on the step."""
        return self._reward(applicants, jobs)

    def tensors(self) -> dict[str, Tensor]:
        """The generator's state."""
        return {"generator": self._generator.get_state()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave."""
        self._generator.set_state(tensors["generator"])


class PaidEnvironment(TrainingEnvironment):
    """One that answers with a paid reward, whose memory is a part of what changes in it."""

    _reward: PaidReward

    def tensors(self) -> dict[str, Tensor]:
        """The generator's state and the reward's memory."""
        return super().tensors() | {f"reward.{name}": tensor for name, tensor in self._reward.tensors().items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave."""
        super().load(tensors)
        start = "reward."
        self._reward.load({name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)})
