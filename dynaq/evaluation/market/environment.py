"""The held-out market as an environment to learn in, and a record of what happened there.

What an arm earns depends on what it has earned: taken jobs are gone, look-alikes of those shown are less wanted. So
it is also asked, at each step before it learns, what it would show to the same people at rest, as if nothing had been
shown to them yet. Among the same candidates for all arms this tells what an arm knows, whatever it has used up.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynaq.evaluation.judges.ranking import finite, top
from dynaq.evaluation.market.market import Market
from dynaq.mdp.environment import Observation
from dynaq.protocols import Recommender

INTERACTION = (0.0, 1.0)  # the rewards of the online market: none, and an interaction
_RECORD = ("rewards", "chances", "best", "shown", "knows", "knows_random", "knows_best")

Floats = NDArray[np.float32]


class OnlineEnvironment:
    """The same applicants at every step; +1 for an interaction.

    Args:
        market: answers.
        applicants: int64 [A], rows of the snapshot that the market's rows are.
        jobs: int64 [J], likewise.
        n: candidates an applicant and step.
        slate: jobs shown to each.
    """

    def __init__(
        self, market: Market, applicants: NDArray[np.int64], jobs: NDArray[np.int64], n: int, slate: int
    ) -> None:
        self.market, self.applicants, self._jobs = market, torch.from_numpy(applicants), jobs
        self._n, self._slate = n, slate
        self._record: dict[str, list[Floats]] = {name: [] for name in _RECORD}
        self._offered = np.empty((0, 0), dtype=np.int64)
        self._at_rest = market.base_chances()
        self.asked: Recommender | None = None
        self.asked_from = 0  # step
        self.who = "the recommender"  # for errors

    def observe(self, step: int) -> Observation:
        """All applicants, with the candidates that every arm sees at this step and history."""
        self._offered = self.market.candidates(step, self._n)
        if self.asked and step >= self.asked_from:
            self._ask(self.asked, self.market.candidates(step, self._n, at_rest=True))
        return Observation(self.applicants, torch.from_numpy(self._jobs[self._offered]))

    def _ask(self, recommender: Recommender, offered: NDArray[np.int64]) -> None:
        """What it would show of columns [A, n] to applicants at rest."""
        scores = self._scores(recommender, torch.from_numpy(self._jobs[offered]))
        chances = np.take_along_axis(self._at_rest, offered, axis=1)
        chosen = np.take_along_axis(chances, top(scores, self._slate), axis=1)
        self._record["knows"].append(chosen.mean(axis=1, dtype=np.float32))
        self._record["knows_random"].append(chances.mean(axis=1, dtype=np.float32))
        self._record["knows_best"].append(np.sort(chances, axis=1)[:, -self._slate :].mean(axis=1, dtype=np.float32))

    def _scores(self, recommender: Recommender, jobs: Tensor) -> Floats:
        return finite(recommender.scores(self.applicants, jobs).numpy(), self.who)

    def best_slates(self) -> Tensor:
        """The most probable of the candidates just offered, which nobody can know: rows of jobs, int64 [A, k]."""
        chances = self.market.chances(self._offered)
        order = np.argsort(-chances, axis=1, kind="stable")[:, : self._slate]
        return torch.from_numpy(self._jobs[np.take_along_axis(self._offered, order, axis=1)])

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        """1 for an interaction, else 0: int64 [A * k], [A * k], slate by slate in the order of ``observe``."""
        slates = np.searchsorted(self._jobs, jobs.numpy()).reshape(len(self.applicants), -1)
        k = slates.shape[1]
        offered = np.sort(self.market.chances(self._offered), axis=1)[:, -k:]
        chances = self.market.chances(slates)
        answers = self.market.answers(step, slates)
        for name, values in (("rewards", answers), ("chances", chances), ("best", offered)):
            self._record[name].append(values.mean(axis=1, dtype=np.float32))
        self._record["shown"].append(slates.astype(np.float32))
        return torch.from_numpy(answers.ravel())

    def record(self) -> dict[str, NDArray[np.float32]]:
        """What happened so far.

        Returns:
            ``rewards``, mean answer to a slate; ``chances``, its expectation; ``best``, that of the best slate of the
            same candidates, all [steps, A]; ``shown``, columns of jobs [steps, A, k]. Where somebody is ``asked``,
            ``knows``: the expectation of the slate that it would show at rest, with those of a random and of the best
            slate, all [steps from ``asked_from`` on, A].
        """
        return {name: np.stack(values) for name, values in self._record.items() if values}

    def shown(self) -> NDArray[np.int64]:
        """Columns of the jobs shown so far, in any order."""
        return np.array(self._record["shown"]).ravel().astype(np.int64)

    def everything(self) -> Tensor:
        """All jobs of the panel for everybody: rows of jobs, int64 [A, J]."""
        return torch.from_numpy(self._jobs).expand(len(self.applicants), -1)

    def scores_of(self, recommender: Recommender) -> Floats:
        """Scores of all jobs of the panel: float32 [A, J].

        Raises:
            InputError: one is no finite number.
        """
        return self._scores(recommender, self.everything())

    def chances_at_rest(self, jobs: Tensor) -> Floats:
        """Of rows of jobs, int64 [A, n] -> float32 [A, n]."""
        return np.take_along_axis(self._at_rest, np.searchsorted(self._jobs, jobs.numpy()), axis=1)

    def tensors(self) -> dict[str, Tensor]:
        """The record, and what the market remembers."""
        kept = {f"record.{name}": torch.from_numpy(values) for name, values in self.record().items()}
        return kept | {"tired": torch.from_numpy(self.market.tired), "gone": torch.from_numpy(self.market.gone)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave."""
        self.market.tired, self.market.gone = tensors["tired"].numpy().copy(), tensors["gone"].numpy().copy()
        prefix = "record."
        self._record |= {k.removeprefix(prefix): list(t.numpy()) for k, t in tensors.items() if k.startswith(prefix)}
