"""Bellman targets by hand."""

from __future__ import annotations

import torch

from dynaq.agents.targets import bellman_targets, best_value, closed_form, double_value


def test_hand_computed() -> None:
    targets = bellman_targets(
        rewards=torch.tensor([1.0, -0.5, 2.0]),
        terminated=torch.tensor([False, False, True]),
        next_values=best_value(torch.tensor([[0.0, 4.0], [-3.0, -1.0], [9.0, 9.0]])),
        gamma=0.5,
    )
    assert targets.tolist() == [1.0 + 0.5 * 4.0, -0.5 + 0.5 * -1.0, 2.0]


def test_no_gradient_flows_into_the_target_network() -> None:
    values = torch.ones(1, requires_grad=True)
    assert not bellman_targets(torch.zeros(1), torch.tensor([False]), values, 0.9).requires_grad


def test_double_takes_the_online_choice_at_the_target_value() -> None:
    online, target = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[5.0, 3.0, 9.0]])
    assert double_value(online, target).tolist() == [3.0]


def test_closed_form_by_hand() -> None:
    """gamma 0.5 doubles the best: Q* = R + 1 * max R."""
    assert closed_form(torch.tensor([0.25, 1.0]), torch.tensor([1.0, 1.0]), 0.5).tolist() == [1.25, 2.0]
