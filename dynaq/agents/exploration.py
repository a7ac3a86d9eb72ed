"""Epsilon-greedy slates."""

from __future__ import annotations

import torch
from torch import Tensor

from dynaq.config import EpsilonConfig


def epsilon_greedy(
    scores: Tensor, k: int, epsilon: float, generator: torch.Generator, barred: Tensor | None = None
) -> Tensor:
    """Slates of k distinct candidates: each place explores with probability epsilon, else takes the next best.

    Args:
        scores: float [B, n].
        k: places in the slate, at most n.
        epsilon: chance that a place shows a candidate drawn uniformly from those not chosen greedily.
        generator: draws places and candidates.
        barred: bool [B, n], candidates that are shown only if no others are left; none by default.

    Returns:
        int64 [B, k]: columns of ``scores``, greedy choices first and in order.
    """
    count, n = scores.shape
    greedy_places = (torch.rand(count, k, generator=generator) >= epsilon).sum(1)
    if barred is not None:
        scores = scores.masked_fill(barred, -torch.inf)
    rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    # Sorting keys: the best candidates keep their rank (below 0), all others come in random order (above 0).
    lottery = torch.rand(count, n, generator=generator)
    keys = torch.where(rank < greedy_places[:, None], rank.float() - n, lottery)
    if barred is not None:
        keys = keys + 2.0 * n * barred
    return keys.topk(k, dim=1, largest=False, sorted=True).indices


def epsilon_at(step: int, schedule: EpsilonConfig) -> float:
    """Linear decay from start to end over the first ``steps`` environment steps."""
    progress = min(step / schedule.steps, 1.0)
    return schedule.start + progress * (schedule.end - schedule.start)
