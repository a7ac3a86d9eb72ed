"""The world model: an ensemble of small linear heads that predicts the answer to any job, shown or not.

Every head is a ridge regression on features of (applicant, job): principal components of the job and their outer
product with those of the applicant (the hybrid features of Li et al. 2010, LinUCB), and the reward that the Q-network
implied when the reward last changed, so that a warm start warms the world model as well. Heads differ by bootstrap:
each pair counts Poisson(1) times in each head. Everything is read off sums over the answers: fitting, the choice of
the ridge, skill and calibration cost a few small linear systems, never a pass over the answers, and are known at
every step.

Where the reward is the expectation over classes (APPLY, SAVE, IGNORE) a head has an output for each; an answer is
split between its two neighbouring classes so that the expectation is kept. For the expected reward alone that makes
no difference (regression is linear in the answers); the chances are there for whoever asks for them. Departure from
the design: heads are linear and solved, not small networks and descended; a fit costs less than one update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynaq.agents.classes import classes_of_expectation, two_hot
from dynaq.agents.components import Components
from dynaq.config import WorldModelConfig
from dynaq.mdp.candidates import mix
from dynaq.mdp.features import FeatureSpace
from dynaq.mdp.history import History

_RIDGES = torch.tensor([3.0, 10.0, 30.0, 100.0, 300.0, 1000.0], dtype=torch.float64)
_FEWEST_HELD_OUT = 10  # below so many held-out answers there is no skill to speak of
_POISSON = torch.tensor([0.3679, 0.7358, 0.9197, 0.9810, 0.9963, 0.9994])  # distribution function of Poisson(1)


Prior = Callable[[Tensor, Tensor], Tensor]  # rewards of pairs, int64 [B], [B] -> float32 [B]


@dataclass(frozen=True)
class Prediction:
    """Expected rewards of B pairs, calibrated, how far the heads disagree, and the chance of each class.

    Attributes:
        reward: float32 [B].
        disagreement: float32 [B], standard deviation over the heads.
        heads: float32 [B, heads], what each of them expects.
        classes: float32 [B, C], chances that sum to 1; all 1 where the reward is a plain number (C = 1).
    """

    reward: Tensor
    disagreement: Tensor
    heads: Tensor
    classes: Tensor


class _Sums:
    """Sums over answers from which any linear predictor can be fitted and judged: XwX, Xwy, and of the reward."""

    def __init__(self, heads: int, width: int, outputs: int) -> None:
        self.xx = torch.zeros(heads, width, width, dtype=torch.float64)
        self.xy = torch.zeros(heads, width, outputs, dtype=torch.float64)
        self.square = torch.zeros((), dtype=torch.float64)
        self.count = torch.zeros((), dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor, rewards: Tensor, weights: Tensor) -> None:
        weighted = weights.T[:, :, None] * x  # [heads, B, F]
        self.xx += weighted.transpose(1, 2) @ x
        self.xy += weighted.transpose(1, 2) @ y
        self.square += (rewards.double() ** 2).sum()
        self.count += len(rewards)


class WorldModel:
    """Predicts rewards of pairs.

    Args:
        space: vectors of applicants and jobs.
        config: number of heads and of components.
        cosines: whether the features include the cosines of paired fields.
        history: places of the history it may look at; 0 for none.
        seed: of the bootstrap and of the split.
    """

    def __init__(self, space: FeatureSpace, config: WorldModelConfig, cosines: bool, history: int, seed: int) -> None:
        self.config = config
        self._space = space
        self._cosines = cosines
        self._history = history
        self._salt = mix(torch.tensor(seed))
        self.bases = (
            Components.of(space.states, config.state_components),
            Components.of(space.actions, config.action_components),
        )
        self._states, self._actions = self.bases[0](space.states), self.bases[1](space.actions)
        self.start_phase((), None)

    @property
    def width(self) -> int:
        """Number of features."""
        states, actions = self._states.shape[1], self._actions.shape[1]
        crossed = states * min(states, actions)
        return 2 + actions + crossed + len(self._space.pairs) * self._cosines + 3 * bool(self._history)

    def start_phase(self, classes: Sequence[float], prior: Prior | None) -> None:
        """Begin with another reward: only the prior says anything yet.

        Args:
            classes: the rewards that answers are made of, in any order; empty for a plain number.
            prior: rewards of pairs as a warm start implies them; none without one.
        """
        self._prior = prior
        distinct = sorted(set(classes))  # with save = ignore two answers are one class
        self.values = torch.tensor(distinct if len(distinct) > 1 else [1.0], dtype=torch.float64)
        heads, outputs = self.config.heads, len(self.values)
        self._learned = _Sums(heads + 1, self.width, outputs)  # the first has every pair once
        self._held_out = _Sums(1, self.width, outputs)
        self._drawn = torch.zeros(2, dtype=torch.float64)  # number and sum of the answers to uniform questions
        self._expected = torch.zeros(self.width, outputs, dtype=torch.float64)
        if prior is not None:
            self._expected[:2] = classes_of_expectation(self.values)
        self.weights = self._expected.repeat(heads + 1, 1, 1)
        self.skill, self.explained, self.slope = 0.0, 0.0, 1.0

    @property
    def mean_weights(self) -> Tensor:
        """Weights of the expected reward, calibrated, over the features: float64 [F]."""
        weights = self.slope * (self.weights[0] @ self.values)
        weights[0] += (1 - self.slope) * self._mean
        return weights

    @property
    def _mean(self) -> float:
        if self._drawn[0]:
            return float(self._drawn[1] / self._drawn[0])
        return float(self._learned.xy[0, 0] @ self.values / self._learned.xx[0, 0, 0].clamp(min=1))

    def features(self, applicants: Tensor, jobs: Tensor, history: History | None = None) -> Tensor:
        """Constant, prior, components, crossed components, cosines, resemblance to the history: float64 [B, F]."""
        state, action = self._states[applicants], self._actions[jobs]
        crossed = state[:, :, None] * action[:, None, : state.shape[1]]
        prior = self._prior(applicants, jobs) if self._prior else torch.zeros(len(jobs))
        parts = [torch.ones(len(jobs), 1), prior[:, None], action, crossed.flatten(1)]
        if self._cosines:
            parts.append(self._cosines_of(applicants, jobs))
        if history is not None:
            parts.append(self._resemblance(jobs, history))
        return torch.cat(parts, dim=1).double()

    def _cosines_of(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        states, actions, d = self._space.states[applicants], self._space.actions[jobs], self._space.d
        return torch.stack([(states[:, i : i + d] * actions[:, j : j + d]).sum(1) / d for i, j in self._space.pairs], 1)

    def _resemblance(self, jobs: Tensor, history: History) -> Tensor:
        """How much a job is like those shown lately: on average, at most, and weighted by their answers [B, 3]."""
        shown = self._actions[history.jobs.clamp(min=0)]
        now = self._actions[jobs]
        alike = torch.cosine_similarity(shown, now[:, None], dim=2) * history.shown
        answers = history.answers.where(history.shown, 0.0)
        places = history.jobs.shape[1]
        return torch.stack([alike.sum(1) / places, alike.amax(1), (alike * answers).sum(1)], dim=1)

    def directions(self, jobs: Tensor) -> Tensor:
        """Jobs as unit vectors of principal components, whose products say how alike they are: int64 [B] -> [B, C]."""
        return torch.nn.functional.normalize(self._actions[jobs], dim=1)

    def is_held_out(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Pairs never learned from, however often they come: fixed by a hash, bool [B]."""
        return self._hash(applicants, jobs).remainder(1000) < round(1000 * self.config.held_out_share)

    def _some_of(self, uniform: Tensor) -> Tensor:
        """The uniform pairs to hold out, bool [B]: as they come, while they are below their share of all answers.

        Planning imagines any job, so skill and calibration are measured on any: pairs sought out for a high value or
        for disagreement are the wrong sample. Not all uniform pairs are held out: where most of what is learned was
        sought out, the rest of them are what keeps the heads right elsewhere. The order they come in is random.
        """
        answers = float(self._learned.count + self._held_out.count) + len(uniform)
        wanted = self.config.held_out_share * answers - float(self._held_out.count)
        return uniform & (uniform.cumsum(0) <= wanted)

    def _hash(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        return mix((applicants * len(self._space.actions) + jobs) ^ self._salt)

    def observe(
        self,
        applicants: Tensor,
        jobs: Tensor,
        rewards: Tensor,
        history: History | None = None,
        uniform: Tensor | None = None,
    ) -> None:
        """Learn from answers int64 [B], [B], float32 [B] (no NaN), and measure the skill anew.

        Args:
            applicants, jobs, rewards: pairs and their answers.
            history: what each applicant had been shown before.
            uniform: bool [B], pairs drawn at random where the others were sought out; None if nobody sought.
        """
        x = self.features(applicants, jobs, history)
        y = two_hot(rewards.double(), self.values)
        if uniform is None:
            aside = self.is_held_out(applicants, jobs)
        else:
            aside = self._some_of(uniform)
            self._drawn += torch.stack([uniform.double().sum(), rewards[uniform].double().sum()])
        draws = self._hash(applicants, jobs)[:, None] ^ torch.arange(1, self.config.heads + 1)
        luck = mix(draws).remainder(2**24).float() / 2**24
        weights = torch.cat([torch.ones(len(jobs), 1), torch.bucketize(luck, _POISSON, right=True)], dim=1).double()
        self._learned.add(x[~aside], y[~aside], rewards[~aside], weights[~aside])
        self._held_out.add(x[aside], y[aside], rewards[aside], torch.ones(int(aside.sum()), 1, dtype=torch.float64))
        self._fit()

    def _fit(self) -> None:
        """Choose the ridge by held-out error, solve every head with it, and measure skill and calibration."""
        if self._learned.count == 0:
            return
        scale = torch.ones(self.width, dtype=torch.float64)
        scale[:2] = 0.01  # the constant and the prior are trusted from the start
        candidates = self._solve(self._learned.xx[:1], self._learned.xy[:1], _RIDGES[:, None] * scale)
        errors = torch.stack([self._error(w @ self.values) for w in candidates])
        measured = self._held_out.count >= _FEWEST_HELD_OUT
        best = int(errors.argmin()) if measured else len(_RIDGES) - 1
        heads = self._solve(self._learned.xx[1:], self._learned.xy[1:], _RIDGES[best] * scale)
        self.weights = torch.cat([candidates[best : best + 1], heads])
        self.skill, self.slope = self._judge(self.weights[0] @ self.values) if measured else (0.0, 1.0)
        self.explained = self._explained_by_prior()

    def _solve(self, xx: Tensor, xy: Tensor, ridge: Tensor) -> Tensor:
        """Ridge regressions [K, F, C]; deviations from the prior are what is penalised."""
        system = xx + torch.diag_embed(ridge.expand(max(len(xx), len(ridge) if ridge.ndim > 1 else 1), -1))
        right = xy + ridge.unsqueeze(-1) * self._expected
        weights: Tensor = torch.linalg.solve(system, right.expand(len(system), -1, -1))
        return weights

    def _error(self, weights: Tensor) -> Tensor:
        """Mean squared error on held-out answers of a linear predictor [F]."""
        sums = self._held_out
        cross = weights @ (sums.xy[0] @ self.values)
        total: Tensor = weights @ sums.xx[0] @ weights - 2 * cross + sums.square
        return total / sums.count.clamp(min=1)

    def _judge(self, weights: Tensor) -> tuple[float, float]:
        """Skill against the better of the mean and the prior, and the calibrating slope, on held-out answers.

        Returns:
            1 - MSE / MSE of the better simple predictor; slope of answers on predictions, in [0, 1].
        """
        simple = torch.zeros(2, self.width, dtype=torch.float64)
        simple[0, 0] = self._mean
        known = torch.tensor([0, 1]) if self._prior else torch.tensor([0])
        xx, xy = self._learned.xx[0][known][:, known], self._learned.xy[0][known] @ self.values
        simple[1, known] = torch.linalg.solve(xx + 1e-6 * torch.eye(len(known), dtype=torch.float64), xy)
        against = min(self._error(simple[0]), self._error(simple[1]))
        skill = 1 - self._error(weights) / against if against > 0 else torch.zeros(())
        sums = self._held_out
        mean, answered = sums.xx[0, 0] @ weights, sums.xy[0, 0] @ self.values
        variance = weights @ sums.xx[0] @ weights - mean**2 / sums.count
        covariance = weights @ (sums.xy[0] @ self.values) - mean * answered / sums.count
        slope = float(covariance / variance.clamp(min=1e-12))
        return float(skill), min(max(slope, 0.0), 1.0)

    def _explained_by_prior(self) -> float:
        """Share of the answers' variance that the prior explains: adjusted R squared, 0 if it contradicts them."""
        xx = (self._learned.xx[0] + self._held_out.xx[0])[:2, :2]
        (count, predicted), (_, predicted_square) = xx.tolist()
        answered, both = ((self._learned.xy[0] + self._held_out.xy[0])[:2] @ self.values).tolist()
        square = float(self._learned.square + self._held_out.square)
        covariance = both - predicted * answered / count
        variances = (predicted_square - predicted**2 / count) * (square - answered**2 / count)
        if count <= 2 or covariance <= 0 or variances <= 0:
            return 0.0
        return float(max(1 - (1 - covariance**2 / variances) * (count - 1) / (count - 2), 0.0))

    def predict(self, applicants: Tensor, jobs: Tensor, history: History | None = None) -> Prediction:
        """Predict answers to pairs, int64 [B], [B]."""
        x = self.features(applicants, jobs, history)
        outputs = torch.einsum("bf,kfc->bkc", x, self.weights)
        rewards = outputs @ self.values  # [B, heads + 1]
        chances = outputs[:, 0].clamp(min=1e-6)
        return Prediction(
            reward=(x @ self.mean_weights).float(),
            disagreement=rewards[:, 1:].std(dim=1).float(),
            heads=rewards[:, 1:].float(),
            classes=(chances / chances.sum(1, keepdim=True)).float(),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to go on, by name."""
        judged = torch.tensor([self.skill, self.explained, self.slope], dtype=torch.float64)
        saved = {"weights": self.weights, "values": self.values, "expected": self._expected, "judged": judged}
        saved["drawn"] = self._drawn
        for name, sums in (("learned", self._learned), ("held_out", self._held_out)):
            saved |= {f"{name}.{part}": tensor for part, tensor in vars(sums).items()}
        return saved

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave, under the same prior; KeyError where something lacks."""
        self.weights, self.values, self._expected = tensors["weights"], tensors["values"], tensors["expected"]
        self.skill, self.explained, self.slope = tensors["judged"].tolist()
        self._drawn = tensors["drawn"]
        for name, sums in (("learned", self._learned), ("held_out", self._held_out)):
            for part in vars(sums):
                setattr(sums, part, tensors[f"{name}.{part}"])
