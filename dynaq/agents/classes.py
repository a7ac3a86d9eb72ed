"""Rewards as chances of a few answers: an expectation says how much of each, a reward lies between two."""

from __future__ import annotations

import torch
from torch import Tensor


def classes_of_expectation(values: Tensor) -> Tensor:
    """The linear map from (1, expected reward) to class chances of that expectation, of least norm: float64 [2, C]."""
    if len(values) == 1:
        return torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    centred = values - values.mean()
    slopes = centred / (centred**2).sum()
    return torch.stack([1 / len(values) - values.mean() * slopes, slopes])


def two_hot(rewards: Tensor, values: Tensor) -> Tensor:
    """Chances of classes with the given expectation, split between neighbours: float64 [B] -> [B, C].

    Rewards outside the range of the classes count as the nearest. With one class the reward is its own output.
    """
    if len(values) == 1:
        return rewards[:, None]
    rewards = rewards.clamp(float(values[0]), float(values[-1]))
    upper = torch.searchsorted(values, rewards.contiguous()).clamp(1, len(values) - 1)
    low, high = values[upper - 1], values[upper]
    share = ((rewards - low) / (high - low))[:, None]
    chances = torch.zeros(len(rewards), len(values), dtype=torch.float64)
    return chances.scatter(1, upper[:, None], share).scatter(1, upper[:, None] - 1, 1 - share)
