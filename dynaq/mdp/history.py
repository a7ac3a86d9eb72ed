"""What an applicant was shown and answered: the part of the state that actions change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynaq.errors import InputError


@dataclass(frozen=True)
class History:
    """The last L jobs shown to each of B applicants, oldest first; places not yet filled lie in front.

    Attributes:
        jobs: int64 [B, L], rows of the catalogue; -1 where nothing was shown yet.
        answers: float32 [B, L], the reward of each answer; it means nothing where the job is -1.
    """

    jobs: Tensor
    answers: Tensor

    def __post_init__(self) -> None:
        """Refuse jobs and answers (InputError) that differ in shape or are no matrices."""
        if self.jobs.ndim != 2 or self.jobs.shape != self.answers.shape:
            raise InputError(
                f"a history has jobs {list(self.jobs.shape)} and answers {list(self.answers.shape)},"
                " both must be [B, L]"
            )

    @classmethod
    def empty(cls, count: int, length: int) -> History:
        """Histories of applicants who were shown nothing yet."""
        return cls(torch.full((count, length), -1), torch.zeros(count, length))

    @property
    def shown(self) -> Tensor:
        """Where a job was shown: bool [B, L]."""
        return self.jobs >= 0

    def at(self, rows: Tensor) -> History:
        """Some of the histories: int64 [K] -> History of [K, L]."""
        return History(self.jobs[rows], self.answers[rows])

    def appended(self, jobs: Tensor, answers: Tensor) -> History:
        """The next state: one more job and its answer, the oldest forgotten.

        A missing answer (NaN) leaves no trace: it is not known that the job was seen.

        Args:
            jobs: int64 [B].
            answers: float32 [B].
        """
        moved = History(
            torch.cat([self.jobs[:, 1:], jobs[:, None]], dim=1),
            torch.cat([self.answers[:, 1:], answers[:, None]], dim=1),
        )
        heard = ~torch.isnan(answers)[:, None]
        return History(moved.jobs.where(heard, self.jobs), moved.answers.where(heard, self.answers))
