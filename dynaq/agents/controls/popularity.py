"""What everybody likes: one number a job, learned online."""

from __future__ import annotations

import torch
from torch import Tensor

from dynaq.agents.controls.control import Control, heard

_WEAKEST, _STRONGEST = 1.0, 1000.0  # the prior, in answers


class Popularity(Control):
    """Scores a job by its share of interactions, drawn towards that of all jobs: the same for every applicant.

    The chance that a job is interacted with has a Beta prior, refitted at every step. Its mean is the share over all
    answers, with one of either kind added; its strength comes from how far jobs differ beyond what luck explains, by
    the moments of the beta-binomial (Kleinman 1973, weights = answers). An answer above 0 is an interaction. A job
    not yet shown has the mean. Labels before launch are about other jobs and would teach it nothing.

    Args:
        applicants, jobs: how many there are.
        slate, seed: as of Control.

    Raises:
        InputError: the slate has no place.
    """

    def __init__(self, applicants: int, jobs: int, slate: int, seed: int) -> None:
        super().__init__(slate, seed)
        self._among = applicants, jobs
        self._shown = torch.zeros(jobs, dtype=torch.float64)
        self._interactions = torch.zeros(jobs, dtype=torch.float64)
        self._rates = torch.full((jobs,), 0.5)

    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Expected shares of interactions: int64 [B], [B, n] -> float32 [B, n] in (0, 1)."""
        return self._rates[jobs]

    def remember(self, applicants: Tensor, jobs: Tensor, rewards: Tensor, uniform: Tensor | None = None) -> None:
        """Count answers int64 [L], [L], float32 [L]; NaN counts for nothing.

        Raises:
            InputError: see ``heard``.
        """
        _, jobs, rewards = heard(applicants, jobs, rewards, self._among)
        self._shown.index_add_(0, jobs, torch.ones(len(jobs), dtype=torch.float64))
        self._interactions.index_add_(0, jobs, (rewards > 0).double())
        mean, strength = self.prior()
        self._rates = ((self._interactions + strength * mean) / (self._shown + strength)).float()

    def prior(self) -> tuple[float, float]:
        """Mean of the Beta prior, and its strength in answers: a + b of Beta(a, b)."""
        shown = self._shown[self._shown > 0]
        interactions = self._interactions[self._shown > 0]
        total = float(shown.sum())
        mean = (float(interactions.sum()) + 1) / (total + 2)
        if not len(shown):
            return mean, _STRONGEST
        # Expected: (jobs - 1) + correlation * spare, where the correlation of a job's answers is 1 / (strength + 1).
        dispersion = float((shown * (interactions / shown - mean) ** 2).sum()) / (mean * (1 - mean))
        excess = dispersion - (len(shown) - 1)
        spare = total - float((shown**2).sum()) / total - (len(shown) - 1)
        strength = spare / excess - 1 if excess > 0 else _STRONGEST
        return mean, min(max(strength, _WEAKEST), _STRONGEST)
