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


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_barred_candidates_are_shown_only_if_no_others_are_left(epsilon: float) -> None:
    scores = torch.rand(5000, 6, generator=generator())
    barred = torch.rand(5000, 6, generator=torch.Generator().manual_seed(1)) < 0.6
    slates = epsilon_greedy(scores, 3, epsilon, generator(), barred)
    assert all(len(set(slate)) == 3 for slate in slates.tolist())
    shown = barred.gather(1, slates).sum(1)
    assert torch.equal(shown, (3 - (~barred).sum(1)).clamp(min=0))
    assert shown.max() == 3  # some had nothing else


def test_the_best_that_are_not_barred_come_first_and_in_order() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    barred = torch.tensor([[True, False, False, True]])
    assert epsilon_greedy(scores, 4, 0.0, generator(), barred).tolist() == [[1, 2, 0, 3]]


def test_exploration_is_uniform_over_what_is_not_barred() -> None:
    scores = torch.arange(5.0).expand(20_000, -1)
    barred = torch.tensor([False, False, True, False, True]).expand(20_000, -1)
    counts = torch.bincount(epsilon_greedy(scores, 1, 1.0, generator(), barred).flatten(), minlength=5)
    assert counts[2] == counts[4] == 0
    assert (counts[[0, 1, 3]] - 20_000 / 3).abs().max() < 300
