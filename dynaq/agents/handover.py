"""Hand-over to another reward: what was learned is carried to the new scale, so that the switch costs nothing.

A network trained on cosines around 0.4 meets answers around 0.1: the first updates would only shift its output, by
tearing at all its weights. Instead a pilot of answers is collected first, without learning, and the line that maps
the rewards it predicts to those it gets goes into the last layer, in closed form. From there on the weights are pulled
back to where they stood then, the less the more the answers say that the warm start does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

_PRIOR_ANSWERS = 32  # the prior's weight, in answers at the spread of random candidates
_LEAST_SKILL = 0.02  # bounds the pull while the world model cannot yet tell what the answers say
_SMALLEST_SLOPE = 0.1  # a pilot that contradicts the warm start flattens it; only learning may turn it round


@dataclass
class Pilot:
    """Answers to what a warm-started agent recommends, beside the rewards it had predicted.

    Attributes:
        wanted: answers to collect.
        predicted, answered: float32 [answers so far].
        spread: variance of the rewards predicted for random pairs.
    """

    wanted: int
    predicted: Tensor = field(default_factory=lambda: torch.empty(0))
    answered: Tensor = field(default_factory=lambda: torch.empty(0))
    spread: float = 0.0

    def add(self, predicted: Tensor, answered: Tensor) -> None:
        """Take in answers; a missing one (NaN) counts for nothing."""
        heard = ~torch.isnan(answered)
        self.predicted = torch.cat([self.predicted, predicted[heard]])
        self.answered = torch.cat([self.answered, answered[heard]])

    @property
    def complete(self) -> bool:
        """Whether there are as many answers as wanted."""
        return len(self.answered) >= self.wanted

    def line(self) -> tuple[float, float]:
        """Slope and shift of the least-squares line answered = slope * predicted + shift, the slope drawn to 1.

        Few answers to the best candidates only say little about a slope, so it is a ridge regression: the prior
        counts as 32 answers that lie as far apart as random pairs.
        """
        centred = (self.predicted - self.predicted.mean()).double()
        prior = _PRIOR_ANSWERS * self.spread + torch.finfo(torch.float32).tiny
        covariance = float((centred * self.answered).sum())
        slope = max((covariance + prior) / (float((centred**2).sum()) + prior), _SMALLEST_SLOPE)
        return slope, float(self.answered.mean() - slope * self.predicted.mean())


def implied_rewards(values: Tensor, next_values: Tensor, gamma: float) -> Tensor:
    """R = Q - gamma max Q: the Bellman equation of a static state read backwards. float [B], [B] -> [B]."""
    return values - gamma * next_values


def pull_to_warm_start(anchor: float, answers: int, skill: float, explained: float) -> float:
    """Strength of the pull back to the warm start's weights, as a weight decay is: 1 / learning rate.

    The warm start is taken as the mean of a Gaussian prior over weights, with which n answers make the penalty
    (noise / signal) / n |w - w0|^2 beside a mean squared error (L2-SP: Li, Grandvalet & Davoine 2018). Noise is what
    nobody predicts of the answers, signal what can be predicted of them and the warm start does not: by the world
    model's held-out skill s that is (1 - s) to s. What the warm start itself explains of them, e, says whether it is
    worth keeping: the penalty counts e / (e + s).

    Args:
        anchor: the pull where noise and signal are equal and the warm start explains most, times the answers.
        answers: had since the reward changed.
        skill: held-out skill of the world model against the warm start, 1 at best.
        explained: share of the answers' variance that the warm start explains.
    """
    skill = min(max(skill, _LEAST_SKILL), 1.0)
    return anchor * (1 - skill) / skill / max(answers, 1) * explained / (explained + skill)
