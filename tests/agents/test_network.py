"""The split first layer gives the numbers and gradients of the plain network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dynaq.agents.network import PairNetwork
from dynaq.mdp.features import FeatureSpace

FEATURES = ["concat", "product", "cosine", "residual"]
D = 6


def fields(rows: int, count: int, seed: int) -> Tensor:
    """Rows of ``count`` fields, each of length sqrt(d): float32 [rows, count * D]."""
    drawn = torch.randn(rows, count, D, generator=torch.Generator().manual_seed(seed))
    return (F.normalize(drawn, dim=2) * D**0.5).flatten(1)


SPACE = FeatureSpace(fields(9, 2, 0), fields(20, 3, 1), ((0, D), (0, 2 * D), (D, 0)), D)


def mean_cosine(states: Tensor, actions: Tensor) -> Tensor:
    return torch.stack([F.cosine_similarity(states[:, i : i + D], actions[:, j : j + D]) for i, j in SPACE.pairs]).mean(
        0
    )


def plain(network: PairNetwork, states: Tensor, actions: Tensor) -> Tensor:
    """The textbook network: one concatenated input, nothing shared. [B, Ds], [B, Da] -> [B]."""
    pairs = [(states[:, i : i + D], actions[:, j : j + D]) for i, j in SPACE.pairs]
    extra = {
        "product": [s * a for s, a in pairs],
        "cosine": [4 * F.cosine_similarity(s, a)[:, None] for s, a in pairs],  # brought to order 1
    }.get(network.features, [])
    values = network.last(network.middle(network.first(torch.cat([states, actions, *extra], dim=1)))).squeeze(1)
    return values + network.gain * mean_cosine(states, actions) if network.features == "residual" else values


def random_network(features: str, dropout: float = 0.0) -> PairNetwork:
    """Random to the last layer, which a residual network starts with zeros."""
    torch.manual_seed(0)
    network = PairNetwork(SPACE, [32, 16], dropout, features)
    torch.nn.init.normal_(network.last.weight)
    torch.nn.init.normal_(network.last.bias)
    return network


@pytest.mark.parametrize("features", FEATURES)
def test_split_equals_plain_in_value_and_gradient(features: str) -> None:
    network = random_network(features)
    jobs = torch.randint(20, (9, 5), generator=torch.Generator().manual_seed(2))
    halves = network.job_half(SPACE.actions)
    split = network.candidates(SPACE.states, SPACE.actions[jobs], halves[jobs])
    expected = plain(network, SPACE.states.repeat_interleave(5, 0), SPACE.actions[jobs.flatten()]).reshape(9, 5)
    assert torch.allclose(split, expected, atol=1e-5)
    assert torch.allclose(network(SPACE.states, SPACE.actions[jobs[:, 0]]), expected[:, 0], atol=1e-5)

    ours = torch.autograd.grad(split.square().mean(), list(network.parameters()))
    theirs = torch.autograd.grad(expected.square().mean(), list(network.parameters()))
    for (name, _), a, b in zip(network.named_parameters(), ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-5), name
        assert torch.count_nonzero(a), name


def test_a_residual_network_starts_as_exactly_the_mean_cosine() -> None:
    network = PairNetwork(SPACE, [32, 16], 0.0, "residual")
    rows, jobs = torch.arange(9).repeat(20), torch.arange(20).repeat_interleave(9)
    states, actions = SPACE.states[rows], SPACE.actions[jobs]
    assert torch.allclose(network(states, actions), mean_cosine(states, actions), atol=1e-6)
    other = PairNetwork(SPACE, [8], 0.0, "residual")  # whatever its other weights are
    assert torch.equal(network(states, actions), other(states, actions))


@pytest.mark.parametrize("features", FEATURES)
def test_rescaling_is_exact(features: str) -> None:
    network = random_network(features)
    before = network(SPACE.states, SPACE.actions[:9])
    network.rescale(0.3, -2.0)
    assert torch.allclose(network(SPACE.states, SPACE.actions[:9]), 0.3 * before - 2.0, atol=1e-6)


def test_dropout_is_for_training_only() -> None:
    network = random_network("concat", dropout=0.5)
    network.train()
    assert not torch.equal(network(SPACE.states, SPACE.actions[:9]), network(SPACE.states, SPACE.actions[:9]))
    network.eval()
    assert torch.equal(network(SPACE.states, SPACE.actions[:9]), network(SPACE.states, SPACE.actions[:9]))
