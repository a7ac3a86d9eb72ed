"""Q-learning on batches of transitions: scores, targets, steps of Adam, and the target network between them."""

from __future__ import annotations

import torch
from torch import Tensor

from dynaq.agents.applied import AppliedJobs
from dynaq.agents.batch import Batch
from dynaq.agents.exploration import epsilon_greedy
from dynaq.agents.maxima import FrozenNetwork, RememberedMaxima, fresh_values
from dynaq.agents.q_network import QNetwork
from dynaq.agents.targets import bellman_targets, best_value, closed_form, double_value
from dynaq.config import AgentConfig
from dynaq.mdp.candidates import CandidateSampler
from dynaq.mdp.features import FeatureSpace
from dynaq.mdp.history import History
from dynaq.mdp.prioritised import PrioritisedReplay
from dynaq.mdp.replay import ReplayBuffer, Transitions


class QLearner:
    """A Q-network with a target network and a replay buffer, over one snapshot's applicants and jobs.

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
            self.q = QNetwork(space, config)
            self.target = QNetwork(space, config)
        self.average_reward = 0.0

    def begin(self) -> None:
        """Start learning anew from the weights there are: no experience, no optimiser moments, targets as they are."""
        alpha, capacity = self.config.replay.alpha, self.config.replay.capacity
        self.prioritised = PrioritisedReplay(capacity, alpha) if alpha else None
        self.replay = self.prioritised.buffer if self.prioritised else ReplayBuffer(capacity)
        self.applied = AppliedJobs(len(self.space.actions))
        self.optimizer = torch.optim.Adam(self.q.parameters(), lr=self.config.learning_rate, fused=True)
        self.updates = 0
        self.epoch = 0
        self.average_reward = 0.0
        self.target.load_state_dict(self.q.state_dict())
        self.freeze_target()

    # --- acting -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """What the network says of candidates, by which they are ranked: int64 [B], [B, n] -> float32 [B, n]."""
        self.q.eval()
        states = self.q.states(self.space, applicants, self._recent(applicants))
        return fresh_values(self.q, states, jobs, self.space.actions)

    def values(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Q-values of candidates, int64 [B], [B, n] -> float32 [B, n]: scores, completed where they are rewards only.

        With ``target: closed_form`` the network learns R, and the best reward among the candidates of the current
        synchronisation completes it to Q*.
        """
        scores = self.scores(applicants, jobs)
        if self.config.target != "closed_form":
            return scores
        best = self.scores(applicants, self.maxima.candidates(applicants)).max(dim=1, keepdim=True).values
        return closed_form(scores, best, self.config.gamma)

    def act(self, applicants: Tensor, candidates: Tensor, epsilon: float) -> Tensor:
        """Epsilon-greedy slates: int64 [B], [B, n] -> jobs int64 [B, k]; those applied to come last."""
        k = min(self.config.slate, candidates.shape[1])
        scores = self.scores(applicants, candidates)
        barred = self.applied.contains(applicants, candidates)
        chosen = epsilon_greedy(scores, k, epsilon, self.generator, barred)
        return candidates.gather(1, chosen)

    def _recent(self, applicants: Tensor) -> History | None:
        if self.config.history is None:
            return None
        return self.replay.events(self.replay.recent(applicants, self.config.history.length))

    # --- learning -----------------------------------------------------------------------------------------------

    def _history_before(self, replay: ReplayBuffer, slots: Tensor | None) -> History | None:
        if self.config.history is None or slots is None:
            return None
        return replay.events(replay.histories(slots, self.config.history.length))

    @property
    def _gamma(self) -> float:
        """The discount that the network learns with."""
        return 0.0 if self.config.target == "closed_form" else self.config.gamma

    def _learn(self, batch: Batch) -> tuple[float, Tensor]:
        """A step of Adam on a batch: the mean squared TD error, and the TD errors float32 [B]."""
        targets = self.targets(batch)
        self.q.train()
        states = self.q.states(self.space, batch.transitions.applicants, batch.history)
        errors = targets - self.q(states, self.space.actions.index_select(0, batch.transitions.jobs))
        loss = (batch.weights * errors**2).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item(), errors.detach()

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """Bellman targets of a batch, less the average reward if rewards are centred: float32 [B].

        Centring (Naik, Wan, Tomar & Sutton 2024) takes the running average off every reward; it shifts all values by
        the same amount and keeps them small where gamma is large.
        """
        rewards = batch.transitions.rewards - self.average_reward
        if self._gamma == 0:
            return rewards
        return bellman_targets(rewards, batch.transitions.terminated, self._next_values(batch), self._gamma)

    def _next_values(self, batch: Batch) -> Tensor:
        """Value of the next state: of the best next candidate, as the target network stands. float32 [B]."""
        applicants = batch.transitions.applicants
        if self.config.static and self.config.target == "bellman":
            return self.maxima(applicants)
        if self.config.static:
            candidates = self.maxima.candidates(applicants)
        else:
            candidates = self.sampler.draw(batch.transitions.next_seeds)
        history = batch.history and batch.history.appended(batch.transitions.jobs, batch.transitions.rewards)
        values = self._frozen.values(self.target.states(self.space, applicants, history), candidates)
        barred = self._barred_next(batch.transitions, candidates)
        if self.config.target == "double":
            online = self._online_values(applicants, history, candidates).masked_fill(barred, -torch.inf)
            chosen = double_value(online, values)
        else:
            chosen = best_value(values.masked_fill(barred, -torch.inf))
        return chosen.masked_fill(barred.all(dim=1), 0.0)  # nothing is left to show: no future

    def _online_values(self, applicants: Tensor, history: History | None, candidates: Tensor) -> Tensor:
        self.q.eval()
        return fresh_values(self.q, self.q.states(self.space, applicants, history), candidates, self.space.actions)

    def _barred_next(self, transitions: Transitions, candidates: Tensor) -> Tensor:
        """Candidates that the applicant has applied to by now, or applies to in this transition: bool [B, n]."""
        if self.config.applied_from is None:
            return torch.zeros(candidates.shape, dtype=torch.bool)
        now = (candidates == transitions.jobs[:, None]) & (transitions.rewards >= self.config.applied_from)[:, None]
        return now | self.applied.contains(transitions.applicants, candidates)

    def freeze_target(self) -> None:
        """Prepare the target network, which stands still from now on."""
        self.target.eval()
        self._frozen = FrozenNetwork(self.target, self.space, self._target_lasts)
        self.maxima = RememberedMaxima(self._frozen, self.space, self.sampler, self.epoch)

    @property
    def _target_lasts(self) -> bool:
        """Whether the target network stands still for longer than one update."""
        return self.config.target_sync > 1

    def _synchronise(self) -> None:
        """Copy the Q-network into the target network, or move it there by ``target_share``."""
        with torch.no_grad():
            for ours, theirs in zip(self.target.parameters(), self.q.parameters(), strict=True):
                ours.lerp_(theirs, self.config.target_share)
        self.epoch += 1
        self.freeze_target()
