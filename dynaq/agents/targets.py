"""Bellman targets."""

from __future__ import annotations

from torch import Tensor


def bellman_targets(rewards: Tensor, terminated: Tensor, next_values: Tensor, gamma: float) -> Tensor:
    """y = r + gamma (1 - terminated) max over a' in A' of Q_target(s', a')  (Watkins 1989; Mnih et al. 2015).

    Truncation is no termination: a session cut off by the end of training still has a future, and bootstraps.

    Args:
        rewards: float [B].
        terminated: bool [B].
        next_values: float [B, n], the target network's values of the *next* candidates A'.
        gamma: discount in [0, 1).

    Returns:
        float [B], without gradient.
    """
    return rewards + gamma * (~terminated) * next_values.max(dim=1).values.detach()
