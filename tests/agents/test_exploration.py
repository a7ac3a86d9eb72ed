"""Epsilon-greedy slates."""

from __future__ import annotations

import pytest
import torch

from dynaq.agents.exploration import epsilon_at, epsilon_greedy
from dynaq.config import EpsilonConfig


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_greedy_is_the_top_k_in_order() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.7], [4.0, 3.0, 2.0, 1.0]])
    assert epsilon_greedy(scores, 3, 0.0, generator()).tolist() == [[1, 3, 2], [0, 1, 2]]


def test_exploration_is_uniform_over_all_candidates() -> None:
    scores = torch.arange(5.0).expand(20_000, -1)
    counts = torch.bincount(epsilon_greedy(scores, 1, 1.0, generator()).flatten(), minlength=5)
    assert (counts - 4000).abs().max() < 250


@pytest.mark.parametrize("k", [1, 3])
def test_each_place_explores_with_probability_epsilon(k: int) -> None:
    scores = torch.arange(50.0).expand(20_000, -1)
    slates = epsilon_greedy(scores, k, 0.3, generator())
    assert all(len(set(slate)) == k for slate in slates[:500].tolist())
    greedy = (slates >= 50 - k).sum() / slates.numel()  # the best k; a lottery draw is among them by chance
    assert greedy.item() == pytest.approx(0.7 + 0.3 * 0.02, abs=0.02)


def test_epsilon_decays_linearly_and_stays() -> None:
    schedule = EpsilonConfig(start=0.5, end=0.1, steps=4)
    assert [round(epsilon_at(step, schedule), 6) for step in (0, 1, 2, 4, 99)] == [0.5, 0.4, 0.3, 0.1, 0.1]
