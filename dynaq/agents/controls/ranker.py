"""A supervised ranker: what the labels are worth without reinforcement learning.

Two towers that start as the identity, so that the first score is the mean cosine of the paired fields:

    score(s, a) = gain * mean over pairs of (U s_i + u) . (V a_j + v) / d + shift

The fields are of one length, the towers' outputs are not brought back to it: that ranked no better on a hidden rule nor
on the stand-in's labels, and without it no candidate passes through a tower, because (U s)' V a = (V' U s)' a.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynaq.agents.controls.control import Control, heard
from dynaq.agents.handover import Pilot
from dynaq.agents.learner import UpdateLosses
from dynaq.errors import InputError
from dynaq.mdp.features import FeatureSpace
from dynaq.mdp.replay import ReplayBuffer, Transitions

_LEARNING_RATE = 3e-4
_BATCH = 64
_HELD_OUT = 10  # one label in so many decides when to stop
_PATIENCE = 5  # passes without a better held-out error
_PASSES = 200  # at most
_PILOT = 64  # answers before learning goes on
_SPREAD_SAMPLE = 256  # random pairs looked at to see how far scores spread
_CAPACITY = 1_000_000  # answers kept, the newest


class TwoTowers(nn.Module):
    """Scores of pairs, the cosine to begin with."""

    def __init__(self, space: FeatureSpace) -> None:
        super().__init__()
        self._space = space
        self.applicant, self.job = nn.Parameter(torch.eye(space.d)), nn.Parameter(torch.eye(space.d))
        self.applicant_bias, self.job_bias = nn.Parameter(torch.zeros(space.d)), nn.Parameter(torch.zeros(space.d))
        self.gain, self.shift = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Scores of pairs: int64 [B], [B] -> float32 [B]."""
        pairs, d = self._space.pairs, self._space.d
        states, actions = self._space.states[applicants], self._space.actions[jobs]
        ours = F.linear(torch.stack([states[:, i : i + d] for i, _ in pairs], 1), self.applicant, self.applicant_bias)
        theirs = F.linear(torch.stack([actions[:, j : j + d] for _, j in pairs], 1), self.job, self.job_bias)
        scores: Tensor = self.gain * (ours * theirs).sum((1, 2)) / (d * len(pairs)) + self.shift
        return scores

    def of_candidates(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """The same of candidates, cheaper: int64 [B], [B, n] -> float32 [B, n]."""
        pairs, d = self._space.pairs, self._space.d
        states = self._space.states[applicants]
        distinct, column = torch.unique(jobs, return_inverse=True)
        query = torch.zeros(len(applicants), self._space.actions.shape[1])
        constant = torch.zeros(len(applicants), 1)
        for i, j in pairs:
            ours = F.linear(states[:, i : i + d], self.applicant, self.applicant_bias)
            query[:, j : j + d] += ours @ self.job
            constant += (ours @ self.job_bias)[:, None]
        products = (query @ self._space.actions.index_select(0, distinct).T).gather(1, column)
        return self.gain * (products + constant) / (d * len(pairs)) + self.shift

    @torch.no_grad()
    def rescale(self, slope: float, shift: float) -> None:
        """Make every score s to slope * s + shift."""
        self.gain.mul_(slope)
        self.shift.mul_(slope).add_(shift)


class SupervisedRanker(Control):
    """Regression on labels until held-out ones get no better, then online on the answers: a step of Adam an update.

    Where the reward changes, from none to labels and from labels to interactions, the line that carries scores to it
    is fitted in closed form first (handover.py), from all labels but the held-out ones and from the first 64 answers.

    Args:
        space: vectors of applicants and jobs.
        slate, seed: as of Control.

    Attributes:
        gradient_steps: made so far.

    Raises:
        InputError: the slate has no place, or no fields are paired.
    """

    def __init__(self, space: FeatureSpace, slate: int, seed: int) -> None:
        super().__init__(slate, seed)
        if not space.pairs:
            raise InputError("the ranker starts at the cosine of paired fields, and there is no pair: set cosine_pairs")
        self._space = space
        self.towers = TwoTowers(space)
        self.replay = ReplayBuffer(_CAPACITY)
        self.gradient_steps = 0
        self._begin()

    def _begin(self) -> None:
        """Another reward: its scale is not known yet, and the optimiser's moments belong to the old one."""
        self._optimizer = torch.optim.Adam(self.towers.parameters(), lr=_LEARNING_RATE, fused=True)
        self._pilot = Pilot(_PILOT)
        anyone = torch.randint(len(self._space.states), (_SPREAD_SAMPLE,), generator=self.generator)
        anything = torch.randint(len(self._space.actions), (_SPREAD_SAMPLE,), generator=self.generator)
        self._pilot.spread = float(self._predicted(anyone, anything).var())

    @torch.no_grad()
    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Expected rewards: int64 [B], [B, n] -> float32 [B, n]."""
        return self.towers.of_candidates(applicants, jobs)

    @torch.no_grad()
    def _predicted(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        predicted: Tensor = self.towers(applicants, jobs)
        return predicted

    def _step(self, applicants: Tensor, jobs: Tensor, rewards: Tensor) -> float:
        """One step of Adam: the mean squared error before it."""
        loss = ((self.towers(applicants, jobs) - rewards) ** 2).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self.gradient_steps += 1
        return float(loss.detach())

    # --- before launch ------------------------------------------------------------------------------------------

    def learn_labels(self, applicants: Tensor, jobs: Tensor, rewards: Tensor) -> None:
        """Learn labels, int64 [L], [L], float32 [L], until a held-out tenth gets no better; NaN is a missing one.

        Of fewer than 20 only the line is learned.

        Raises:
            InputError: see ``heard``.
        """
        among = len(self._space.states), len(self._space.actions)
        labels = heard(applicants, jobs, rewards, among)
        count = len(labels[0])
        if not count:
            return
        order = torch.randperm(count, generator=self.generator)
        tested, learned = order[: count // _HELD_OUT], order[count // _HELD_OUT :]
        applicants, jobs, rewards = (part[learned] for part in labels)
        self._pilot.add(self._predicted(applicants, jobs), rewards)
        self.towers.rescale(*self._pilot.line())
        if len(tested) > 1:
            self._converge((applicants, jobs, rewards), tuple(part[tested] for part in labels))
        self._begin()

    def _converge(self, labels: tuple[Tensor, ...], held_out: tuple[Tensor, ...]) -> None:
        """Pass over the labels until the held-out error stops falling; the towers of the lowest one stay."""
        applicants, jobs, rewards = labels
        best, lowest, since = copy.deepcopy(self.towers.state_dict()), self._error(*held_out), 0
        for _ in range(_PASSES):
            for batch in torch.split(torch.randperm(len(rewards), generator=self.generator), _BATCH):
                self._step(applicants[batch], jobs[batch], rewards[batch])
            if (error := self._error(*held_out)) < lowest:
                best, lowest, since = copy.deepcopy(self.towers.state_dict()), error, 0
            elif (since := since + 1) == _PATIENCE:
                break
        self.towers.load_state_dict(best)

    def _error(self, applicants: Tensor, jobs: Tensor, rewards: Tensor) -> float:
        return float(((self._predicted(applicants, jobs) - rewards) ** 2).mean())

    # --- online -------------------------------------------------------------------------------------------------

    def remember(self, applicants: Tensor, jobs: Tensor, rewards: Tensor, uniform: Tensor | None = None) -> None:
        """Keep answers int64 [L], [L], float32 [L]; NaN leaves no trace.

        Raises:
            InputError: see ``heard``.
        """
        among = len(self._space.states), len(self._space.actions)
        applicants, jobs, rewards = heard(applicants, jobs, rewards, among)
        if not len(rewards):
            return
        if not self._pilot.complete:
            self._pilot.add(self._predicted(applicants, jobs), rewards)
            if self._pilot.complete:
                self.towers.rescale(*self._pilot.line())
        nothing = torch.zeros(len(jobs), dtype=torch.int64)  # no next state is looked at
        self.replay.add(Transitions(applicants, jobs, rewards, nothing, nothing.bool()))

    def update(self) -> UpdateLosses | None:
        """A step of Adam on answers replayed; None while there are too few to know their scale."""
        if not self._pilot.complete:
            return None
        batch = self.replay.sample(_BATCH, self.generator)
        return UpdateLosses(self._step(batch.applicants, batch.jobs, batch.rewards), 0)
