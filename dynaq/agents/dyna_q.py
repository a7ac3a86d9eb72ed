"""Dyna-Q (Sutton 1990) with a Q-network over (applicant, job) vectors.

One update is, from top to bottom:
  direct RL        a batch of real transitions, Bellman target under the target network, MSE, Adam
  planning         batches of imagined ones: applicants met before x any jobs, reward from the world model

The world model learns each answer once, when it comes (world_model.py). After a switch of rewards a pilot of answers
carries what was learned to the new scale (handover.py).

Departures from the textbook: the world model predicts rewards only, because the next state is known: s' = s, or the
history with one more answer; planning draws from the whole catalogue, so mostly jobs the applicant was never shown (the
point of a model over vectors is to speak about them); pairs the ensemble disagrees about are left out, or made to look
worse (``planning.penalty``), and the number of planning steps is scaled by the ensemble's held-out skill, to zero while
it does not beat simpler predictors, because planning with an untrained model destroys a warm start.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dynaq.agents.batch import Batch, joined
from dynaq.agents.handover import Pilot, implied_rewards, pull_to_warm_start
from dynaq.agents.learner import UpdateLosses
from dynaq.agents.maxima import FrozenNetwork, RememberedMaxima
from dynaq.agents.q_learner import QLearner
from dynaq.agents.q_network import QNetwork
from dynaq.agents.targets import best_value
from dynaq.agents.world_model import Prediction, WorldModel
from dynaq.config import AgentConfig
from dynaq.mdp.candidates import CandidateSampler, fresh_seeds
from dynaq.mdp.features import FeatureSpace
from dynaq.mdp.history import History
from dynaq.mdp.replay import ReplayBuffer, Transitions

_SPREAD_SAMPLE = 256  # random pairs looked at to see how far predicted rewards spread


class DynaQ(QLearner):
    """A Q-learner with a world model to plan on, and a hand-over where the reward changes.

    Args:
        space, config, sampler, seed: as of QLearner.
    """

    def __init__(self, space: FeatureSpace, config: AgentConfig, sampler: CandidateSampler, seed: int) -> None:
        super().__init__(space, config, sampler, seed)
        cosines = config.features in ("cosine", "residual")
        length = config.history.length if config.history else 0
        self.world_model = WorldModel(space, config.world_model, cosines, length, seed)
        self.learned_before = False
        self.replay = ReplayBuffer(config.replay.capacity)
        self.start_phase()

    def start_phase(self, classes: Sequence[float] = ()) -> None:
        """Begin learning from another reward.

        Weights stay; optimiser moments, which belong to the old loss, do not. Experience moves to ``earlier``: rewards
        of two sources never meet in one buffer. If something was learned before, a pilot comes first.

        Args:
            classes: the rewards that answers are made of; empty for a plain number.
        """
        self.earlier, self.earlier_average = self.replay, self.average_reward
        self.line = (1.0, 0.0)  # from earlier rewards to these
        self.pilot = Pilot(self.config.hand_over.pilot) if self.learned_before else None
        self.origin = copy.deepcopy(self.q).eval() if self.learned_before else None
        self.anchor: QNetwork | None = None  # the warm start on the scale of this reward, once the pilot is complete
        self._origin_maxima: RememberedMaxima | None = None
        self.world_model.start_phase(classes, self._original_rewards if self.origin else None)
        self.answers = 0
        self.begin()

    def predict(self, applicants: Tensor, jobs: Tensor) -> Prediction:
        """What the world model says of candidates, int64 [B], [B, n]: of B * n pairs, row by row."""
        rows = torch.arange(len(applicants)).repeat_interleave(jobs.shape[1])
        history = self._recent(applicants)
        return self.world_model.predict(applicants[rows], jobs.flatten(), history and history.at(rows))

    # --- learning -----------------------------------------------------------------------------------------------

    def remember(self, applicants: Tensor, jobs: Tensor, rewards: Tensor, uniform: Tensor | None = None) -> None:
        """Store answers int64 [L], [L], float32 [L], and teach them to the world model; NaN leaves no trace.

        ``uniform``, bool [L], says which pairs were drawn at random if the others were sought out.
        """
        heard = ~torch.isnan(rewards)
        applicants, jobs, rewards = applicants[heard], jobs[heard], rewards[heard]
        uniform = None if uniform is None else uniform[heard]
        if not len(rewards):
            return
        if self.piloting:
            self._extend_pilot(applicants, jobs, rewards)
        seeds = fresh_seeds(len(applicants), self.generator)
        ended = torch.zeros(len(jobs), dtype=torch.bool)
        slots = (self.prioritised or self.replay).add(Transitions(applicants, jobs, rewards, seeds, ended))
        self.world_model.observe(applicants, jobs, rewards, self._history_before(self.replay, slots), uniform)
        self.answers += len(rewards)
        if self.config.applied_from is not None:
            gone = rewards >= self.config.applied_from
            self.applied.add(applicants[gone], jobs[gone])

    def _extend_pilot(self, applicants: Tensor, jobs: Tensor, rewards: Tensor) -> None:
        """Note what was predicted for these answers; once there are enough, carry the network to their scale."""
        assert self.pilot is not None
        if not self.pilot.spread:
            everyone = torch.randint(len(self.space.states), (_SPREAD_SAMPLE,), generator=self.generator)
            anything = self.sampler.uniform(_SPREAD_SAMPLE, self.generator)
            self.pilot.spread = float(self._implied(everyone, anything).var())
        self.pilot.add(self._implied(applicants, jobs), rewards)
        if self.pilot.complete:
            slope, shift = self.pilot.line()
            self.line = (slope, shift - slope * self.earlier_average)  # what was learned was centred, what is kept not
            self.q.rescale(slope, shift / (1 - self._gamma))
            self.target.rescale(slope, shift / (1 - self._gamma))
            self.anchor = copy.deepcopy(self.q)
            self.freeze_target()

    def _implied(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        scores = self.scores(applicants, jobs[:, None]).squeeze(1)
        if self._gamma == 0:
            return scores
        if self.config.static:
            best = self.maxima(applicants)
        else:
            states = self.target.states(self.space, applicants, self._recent(applicants))
            best = best_value(self._frozen.values(states, self.maxima.candidates(applicants)))
        return implied_rewards(scores, best, self._gamma)

    @torch.no_grad()
    def _original_rewards(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """The rewards implied when this phase began, without any history: int64 [B], [B] -> float32 [B]."""
        assert self.origin is not None
        remembered = self.config.history
        history = History.empty(len(jobs), remembered.length) if remembered else None
        values: Tensor = self.origin(self.origin.states(self.space, applicants, history), self.space.actions[jobs])
        if self._gamma == 0 or not self.config.static:
            return values  # in a state that moves, the regression fits what the discount adds, on average
        if self._origin_maxima is None:
            frozen = FrozenNetwork(self.origin, self.space, lasting=True)
            self._origin_maxima = RememberedMaxima(frozen, self.space, self.sampler, epoch=0)
        return implied_rewards(values, self._origin_maxima(applicants), self._gamma)

    @property
    def piloting(self) -> bool:
        """Whether a pilot still waits for answers."""
        return self.pilot is not None and not self.pilot.complete

    @property
    def _target_lasts(self) -> bool:
        return super()._target_lasts or self.piloting

    def update(self) -> UpdateLosses | None:
        """One Dyna-Q update; None while nothing has been experienced, or a pilot is not complete."""
        if self.replay.size == 0 or self.piloting:
            return None
        self._warm_up()
        batch = self._replayed()
        loss, errors = self._learn(batch)
        slots = batch.transitions.slots
        if self.prioritised and slots is not None:
            self.prioritised.update(slots, errors[: len(slots)])
        if self.config.reward_centring:
            self.average_reward += self.config.reward_centring * float((batch.weights * errors).mean())
        planning_steps = self._planning_steps()
        for _ in range(planning_steps):
            self._learn(self._imagined())
        self.updates += 1
        self.learned_before = True
        if self.updates % self.config.target_sync == 0:
            self._synchronise()
        return UpdateLosses(loss, planning_steps)

    def _warm_up(self) -> None:
        """After a hand-over the learning rate rises: Adam's first steps are full ones, whatever the gradient."""
        rise = (self.updates + 1) / self.config.hand_over.warmup if self.pilot else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(rise, 1.0)

    def _learn(self, batch: Batch) -> tuple[float, Tensor]:
        """A step of Adam, and a pull back to the warm start: few answers must not tear down what is known."""
        learned = super()._learn(batch)
        if self.anchor and self.config.hand_over.anchor:
            answers, skill, explained = self.answers, self.skill, self.world_model.explained
            pull = pull_to_warm_start(self.config.hand_over.anchor, answers, skill, explained)
            share = min(pull * self.optimizer.param_groups[0]["lr"], 1.0)
            with torch.no_grad():
                for ours, theirs in zip(self.q.parameters(), self.anchor.parameters(), strict=True):
                    ours.lerp_(theirs, share)
        return learned

    def _replayed(self) -> Batch:
        """Real transitions, and of those before the switch a share that falls as answers come in."""
        size, earlier = self.config.batch_size, self.config.hand_over.earlier
        share = earlier / (earlier + self.answers) if self.earlier.size and earlier else 0.0
        # At least one of the new: nothing is learned about this reward from the earlier ones.
        old = min(int(share * size + torch.rand((), generator=self.generator).item()), size - 1) if share else 0
        if self.prioritised:
            transitions, weights = self.prioritised.sample(size - old, self.generator, self.config.replay.beta)
        else:
            transitions, weights = self.replay.sample(size - old, self.generator), torch.ones(size - old)
        batch = Batch(transitions, self._history_before(self.replay, transitions.slots), weights)
        return joined(batch, self._replayed_earlier(old)) if old else batch

    def _replayed_earlier(self, count: int) -> Batch:
        """Transitions of the phase before, their rewards on the scale of this one."""
        slope, shift = self.line
        transitions = self.earlier.sample(count, self.generator)
        history = self._history_before(self.earlier, transitions.slots)
        if history is not None:
            history = History(history.jobs, slope * history.answers + shift)
        rescaled = replace(transitions, rewards=slope * transitions.rewards + shift)
        return Batch(rescaled, history, torch.ones(count))

    # --- planning -----------------------------------------------------------------------------------------------

    @property
    def skill(self) -> float:
        """Held-out skill of the world model against the better of the mean and the warm start, 1 at best."""
        return self.world_model.skill

    def _planning_steps(self) -> int:
        """The configured steps times the skill, fewer as answers come in, the fraction drawn as a chance."""
        planning = self.config.planning
        if planning.steps == 0:
            return 0
        share = max(self.skill, 0.0) * planning.half_after / (planning.half_after + self.answers)
        return int(planning.steps * share + torch.rand((), generator=self.generator).item())

    @torch.no_grad()
    def _imagined(self) -> Batch:
        """A batch that the world model makes up: states met before, any jobs of the catalogue."""
        size, planning = self.config.batch_size, self.config.planning
        drawn = round(size / (1 - planning.rejected_share))
        slots = torch.randint(self.replay.size, (drawn,), generator=self.generator)
        applicants = self.replay.at(slots).applicants
        jobs = self.sampler.uniform(drawn, self.generator)
        history = self._history_before(self.replay, slots)
        answer = self.world_model.predict(applicants, jobs, history)
        kept = answer.disagreement.topk(size, largest=False).indices
        rewards = (answer.reward - planning.penalty * answer.disagreement)[kept]
        seeds = fresh_seeds(size, self.generator)
        ended = torch.zeros(size, dtype=torch.bool)
        transitions = Transitions(applicants[kept], jobs[kept], rewards, seeds, ended)
        return Batch(transitions, history and history.at(kept), torch.ones(size))
