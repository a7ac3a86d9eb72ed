"""Bellman targets, and what a static state allows instead of them."""

from __future__ import annotations

from torch import Tensor


def bellman_targets(rewards: Tensor, terminated: Tensor, next_values: Tensor, gamma: float) -> Tensor:
    """y = r + gamma (1 - terminated) max over a' in A' of Q_target(s', a')  (Watkins 1989; Mnih et al. 2015).

    Truncation is no termination: a session cut off by the end of training still has a future, and bootstraps.

    Args:
        rewards: float [B].
        terminated: bool [B].
        next_values: float [B], the value of the next state: of the best *next* candidate of A'.
        gamma: discount in [0, 1).

    Returns:
        float [B], without gradient.
    """
    return rewards + gamma * (~terminated) * next_values.detach()


def best_value(values: Tensor) -> Tensor:
    """The largest value among candidates: float [B, n] -> [B]."""
    return values.max(dim=1).values


def double_value(online: Tensor, target: Tensor) -> Tensor:
    """The target network's value of the online network's choice (van Hasselt, Guez & Silver 2016).

    Args:
        online: float [B, n], the Q-network's values of the next candidates.
        target: float [B, n], the target network's values of the same.

    Returns:
        float [B].
    """
    return target.gather(1, online.argmax(dim=1, keepdim=True)).squeeze(1)


def closed_form(rewards: Tensor, best_reward: Tensor, gamma: float) -> Tensor:
    """Q*(s, a) = R(s, a) + gamma / (1 - gamma) max over a' of R(s, a'), exact where s' = s.

    Args:
        rewards: float [B] or [B, n], expected rewards.
        best_reward: float [B] or [B, 1], the largest among the candidates of each state.
        gamma: discount in [0, 1).
    """
    return rewards + gamma / (1 - gamma) * best_reward
