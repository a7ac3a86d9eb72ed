"""The split first layer gives the numbers and gradients of the plain network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynaq.agents.network import PairNetwork
from dynaq.mdp.features import FeatureSpace

SPACE = FeatureSpace(torch.randn(9, 12), torch.randn(20, 18), ((0, 6), (6, 12)), 6)


def plain(network: PairNetwork, states: Tensor, actions: Tensor) -> Tensor:
    """The textbook network: one concatenated input, nothing shared."""
    products = [states[:, i : i + 6] * actions[:, j : j + 6] for i, j in network.pairs]
    return network.rest(network.first(torch.cat([states, actions, *products], dim=1))).squeeze(1)


@pytest.mark.parametrize("features", ["concat", "product"])
def test_split_equals_plain_in_value_and_gradient(features: str) -> None:
    torch.manual_seed(0)
    network = PairNetwork(SPACE, [32, 16], dropout=0.0, features=features)
    rows, jobs = torch.arange(9), torch.randint(20, (9, 5))
    halves = network.job_half(SPACE.actions)
    split = network.candidates(SPACE.states[rows], SPACE.actions[jobs], halves[jobs])
    expected = plain(network, SPACE.states.repeat_interleave(5, 0), SPACE.actions[jobs.flatten()]).reshape(9, 5)
    assert torch.allclose(split, expected, atol=1e-5)
    assert torch.allclose(network(SPACE.states, SPACE.actions[jobs[:, 0]]), expected[:, 0], atol=1e-5)

    split.square().sum().backward()
    ours = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    expected.square().sum().backward()
    theirs = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(ours) == len(theirs) == len(list(network.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_dropout_is_for_training_only() -> None:
    network = PairNetwork(SPACE, [64], dropout=0.5, features="concat")
    network.train()
    assert not torch.equal(network(SPACE.states, SPACE.actions[:9]), network(SPACE.states, SPACE.actions[:9]))
    network.eval()
    assert torch.equal(network(SPACE.states, SPACE.actions[:9]), network(SPACE.states, SPACE.actions[:9]))
