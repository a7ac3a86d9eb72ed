"""Hand-over to another reward: what was learned is carried to the new scale, so that the switch costs nothing.

A network trained on cosines around 0.4 meets answers around 0.1: the first updates would only shift its output, by
tearing at all its weights. Instead a pilot of answers is collected first, without learning, and the line that maps
the rewards it predicts to those it gets goes into the last layer, in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

_PRIOR_ANSWERS = 32  # the prior's weight, in answers at the spread of random candidates
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
