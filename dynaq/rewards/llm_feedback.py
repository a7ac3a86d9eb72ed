"""Feedback of an LLM that plays the applicant, as a reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from dynaq.config import LLMConfig
from dynaq.data.snapshot import Snapshot
from dynaq.llm.label import ACTIONS, Label, expected_reward
from dynaq.llm.prompt import prompt_of, shown
from dynaq.rewards.labeller import Labeller
from dynaq.rewards.question import Question

_Pair = tuple[int, int]

_KEPT = 4096  # cleaned texts of a side: agents ask about the same applicants and jobs again


def reward_name(provenance: str) -> str:
    """How checkpoints name a reward made of labels of this provenance."""
    return f"llm:{provenance}"


class LLMFeedback:
    """The expected reward of each pair under the answers of the LLM; NaN where there is no answer.

    Attributes:
        name: ``llm:`` and the labels' provenance.
        classes: the rewards of the answers it is the expectation over.
    """

    def __init__(self, snapshot: Snapshot, labeller: Labeller, config: LLMConfig) -> None:
        """Neither asks nor reads yet."""
        self.name = reward_name(labeller.provenance)
        self.classes = (config.values.apply, config.values.save, config.values.ignore)
        self._snapshot, self._labeller, self._config = snapshot, labeller, config
        limit = config.max_field_chars
        self._applicant = lru_cache(_KEPT)(lambda row: shown(snapshot.applicant_texts[row], limit))
        self._job = lru_cache(_KEPT)(lambda row: shown(snapshot.job_texts[row], limit))

    @property
    def labels_used(self) -> int:
        """Distinct labels handed out, paid for now or earlier."""
        return self._labeller.distinct

    def cost(self) -> dict[str, int]:
        """What they cost (see Labeller)."""
        return self._labeller.cost()

    def tensors(self) -> dict[str, Tensor]:
        """What its labeller remembers: JSON as uint8."""
        return {"labeller": torch.frombuffer(bytearray(self._labeller.memory().encode()), dtype=torch.uint8)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave."""
        self._labeller.remember(tensors["labeller"].numpy().tobytes().decode())

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Rewards of pairs of rows, int64 [B], [B] -> float32 [B]; raises what Labeller raises."""
        pairs: list[_Pair] = list(zip(applicants.tolist(), jobs.tolist(), strict=True))
        answers: dict[_Pair, list[Label]] = {pair: [] for pair in pairs}
        asked = list(answers)
        for sample in range(self._config.samples.most):
            questions = [self._question(pair, sample) for pair in asked]
            for pair, label in zip(asked, self._labeller(questions), strict=True):
                if label is not None:
                    answers[pair].append(label)
            asked = [pair for pair in asked if self._contested(answers[pair])]
        return torch.tensor([self._reward(answers[pair]) for pair in pairs], dtype=torch.float32)

    def _question(self, pair: _Pair, sample: int) -> Question:
        applicant, job = pair
        return Question(
            self._snapshot.applicant_ids[applicant],
            self._snapshot.job_ids[job],
            prompt_of(self._applicant(applicant), self._job(job)),
            sample,
        )

    def _contested(self, labels: Sequence[Label]) -> bool:
        """Whether another answer would tell more; a single sampled action says nothing about its chance."""
        if not labels:
            return False
        if len(labels) == 1 and labels[0].most_likely == 1 and self._config.answer == "action":
            return True
        most = max(sum(getattr(label, action) for label in labels) for action in ACTIONS)
        return bool(most / len(labels) < self._config.samples.contested_below)

    def _reward(self, labels: Sequence[Label]) -> float:
        rewards = [expected_reward(label, self._config.values) for label in labels]
        return sum(rewards) / len(rewards) if rewards else math.nan
