"""Dyna-Q (Sutton 1990) with a Q-network over (applicant, job) vectors.

One update is, from top to bottom:
  direct RL        a batch of real transitions, Bellman target under the target network, MSE, Adam
  world model      the same batch teaches R(s, a); the next state needs no model, since s' = s is known
  planning         batches of imagined transitions: applicants met before x any jobs, reward from the world model

Departures from the textbook: planning draws jobs the applicant was never shown (the point of a model over vectors is
to speak about them); and the number of planning steps is scaled by the world model's skill on pairs kept aside
from it, down to zero while it does not beat predicting the mean, because planning with an untrained model destroys a
warm start.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dynaq.agents.exploration import epsilon_greedy
from dynaq.agents.network import PairNetwork
from dynaq.agents.targets import bellman_targets
from dynaq.config import AgentConfig
from dynaq.mdp.candidates import CandidateSampler, fresh_seeds, mix
from dynaq.mdp.features import FeatureSpace
from dynaq.mdp.replay import ReplayBuffer, Transitions

_SKILL_SAMPLE = 4096  # transitions looked at when the world model's skill is measured


@dataclass(frozen=True)
class UpdateLosses:
    """Mean squared errors of one update, and the planning steps it took."""

    q: float
    world_model: float
    planning_steps: int


class DynaQ:
    """A Dyna-Q recommender over one snapshot's applicants and jobs.

    Args:
        space: vectors of every state and action.
        config: networks and learning rates.
        sampler: draws the next candidates that the Bellman target maximises over.
        seed: seeds the initial weights and every later draw.
    """

    def __init__(self, space: FeatureSpace, config: AgentConfig, sampler: CandidateSampler, seed: int) -> None:
        self.space = space
        self.config = config
        self.sampler = sampler
        self.generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.q = self._network(config.hidden)
            self.target = self._network(config.hidden)
            self.world_model = self._network(config.world_model.hidden)
        self.start_phase()

    def _network(self, hidden: list[int]) -> PairNetwork:
        return PairNetwork(self.space, hidden, self.config.dropout, self.config.features)

    def start_phase(self) -> None:
        """Begin learning from another reward: weights stay, experience and optimiser moments do not.

        Rewards of two sources must not meet in one buffer, and Adam's moments belong to the old loss.
        """
        self.replay = ReplayBuffer(self.config.replay_capacity)
        rate, world_rate = self.config.learning_rate, self.config.world_model.learning_rate
        self.q_optimizer = torch.optim.Adam(self.q.parameters(), lr=rate, fused=True)
        self.world_optimizer = torch.optim.Adam(self.world_model.parameters(), lr=world_rate, fused=True)
        self.updates = 0
        self.skill = 0.0
        self._synchronise()

    def _synchronise(self) -> None:
        """Copy the Q-network into the target network; its job halves then hold until the next time."""
        self.target.load_state_dict(self.q.state_dict())
        self.target.eval()
        with torch.no_grad():
            self._target_halves = self.target.job_half(self.space.actions)

    @torch.no_grad()
    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Q-values of candidates: int64 [B], [B, n] -> float32 [B, n]."""
        self.q.eval()
        distinct, position = torch.unique(jobs, return_inverse=True)
        halves = self.q.job_half(self.space.actions[distinct])
        return self._candidate_values(self.q, applicants, jobs, halves[position])

    def _candidate_values(self, network: PairNetwork, applicants: Tensor, jobs: Tensor, halves: Tensor) -> Tensor:
        # The actions themselves are gathered only for a network that multiplies them with the state.
        actions = self.space.actions[jobs] if network.pairs else halves
        return network.candidates(self.space.states[applicants], actions, halves)

    def act(self, applicants: Tensor, candidates: Tensor, epsilon: float) -> Tensor:
        """Epsilon-greedy slates: int64 [B], [B, n] -> jobs int64 [B, k]."""
        k = min(self.config.slate, candidates.shape[1])
        chosen = epsilon_greedy(self.scores(applicants, candidates), k, epsilon, self.generator)
        return candidates.gather(1, chosen)

    def remember(self, applicants: Tensor, jobs: Tensor, rewards: Tensor) -> None:
        """Store answers int64 [L], [L], float32 [L]; a missing answer (NaN) leaves no trace."""
        seeds = fresh_seeds(len(applicants), self.generator)
        self.replay.add(Transitions(applicants, jobs, rewards, seeds, torch.zeros(len(jobs), dtype=torch.bool)))

    def update(self) -> UpdateLosses | None:
        """One Dyna-Q update; None while nothing has been experienced."""
        if self.replay.size == 0:
            return None
        batch = self.replay.sample(self.config.batch_size, self.generator)
        q_loss = self._learn_q(batch)
        world_loss = self._learn_world(batch)
        planning_steps = self._planning_steps()
        for _ in range(planning_steps):
            self._learn_q(self._imagine())
        self.updates += 1
        if self.updates % self.config.target_sync == 0:
            self._synchronise()
        return UpdateLosses(q_loss, world_loss, planning_steps)

    def _learn_q(self, batch: Transitions) -> float:
        targets = self.targets(batch)
        self.q.train()
        values = self.q(self.space.states[batch.applicants], self.space.actions[batch.jobs])
        return _descend(F.mse_loss(values, targets), self.q_optimizer)

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """Bellman targets of a batch: float32 [B]."""
        if self.config.gamma == 0:
            return batch.rewards
        candidates = self.sampler.draw(batch.next_seeds)
        halves = self._target_halves[candidates]
        next_values = self._candidate_values(self.target, batch.applicants, candidates, halves)
        return bellman_targets(batch.rewards, batch.terminated, next_values, self.config.gamma)

    def _held_out(self, batch: Transitions) -> Tensor:
        """Pairs the world model never learns from, however often they come: fixed by a hash, so without a flag."""
        pair = mix(batch.applicants * len(self.space.actions) + batch.jobs)
        return pair.remainder(1000) < round(1000 * self.config.world_model.held_out_share)

    def _learn_world(self, batch: Transitions) -> float:
        kept = ~self._held_out(batch)
        if not kept.any():
            return float("nan")
        self.world_model.train()
        predicted = self.world_model(self.space.states[batch.applicants[kept]], self.space.actions[batch.jobs[kept]])
        return _descend(F.mse_loss(predicted, batch.rewards[kept]), self.world_optimizer)

    def _planning_steps(self) -> int:
        """The configured steps times the skill, the fraction drawn as a chance."""
        if self.config.planning_steps == 0:
            return 0
        if self.updates % self.config.target_sync == 0:
            self.skill = self._measure_skill()
        steps = self.config.planning_steps * max(self.skill, 0.0)
        return int(steps + torch.rand((), generator=self.generator).item())

    @torch.no_grad()
    def _measure_skill(self) -> float:
        """1 - MSE / MSE of the mean predictor, on transitions the world model has not learnt from."""
        newest = self.replay.newest(_SKILL_SAMPLE)
        aside = self._held_out(newest)
        if aside.sum() < 10 or aside.all():
            return 0.0
        self.world_model.eval()
        predicted = self.world_model(
            self.space.states[newest.applicants[aside]], self.space.actions[newest.jobs[aside]]
        )
        actual = newest.rewards[aside]
        by_mean = F.mse_loss(newest.rewards[~aside].mean().expand_as(actual), actual)
        if by_mean == 0:
            return 0.0
        return float(1 - F.mse_loss(predicted, actual) / by_mean)

    @torch.no_grad()
    def _imagine(self) -> Transitions:
        """A batch the world model makes up: applicants met before, jobs of the whole catalogue."""
        size = self.config.batch_size
        applicants = self.replay.sample(size, self.generator).applicants
        jobs = torch.randint(len(self.space.actions), (size,), generator=self.generator)
        self.world_model.eval()
        rewards = self.world_model(self.space.states[applicants], self.space.actions[jobs])
        seeds = fresh_seeds(size, self.generator)
        return Transitions(applicants, jobs, rewards, seeds, torch.zeros(size, dtype=torch.bool))


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()
