"""The ring buffer: what it keeps, what gives way, what it costs."""

from __future__ import annotations

import torch

from dynaq.mdp.replay import ReplayBuffer, Transitions

NAN = float("nan")


def transitions(rewards: list[float], first: int = 0) -> Transitions:
    rows = torch.arange(first, first + len(rewards))
    return Transitions(rows, rows * 10, torch.tensor(rewards), rows + 2**40, torch.zeros(len(rows), dtype=torch.bool))


def test_missing_rewards_are_left_out_and_never_guessed() -> None:
    buffer = ReplayBuffer(10)
    buffer.add(transitions([1.0, NAN, 3.0]))
    assert buffer.size == 2
    kept = buffer.at(torch.arange(2))
    assert kept.applicants.tolist() == [0, 2]
    assert kept.jobs.tolist() == [0, 20]
    assert kept.rewards.tolist() == [1.0, 3.0]
    assert kept.next_seeds.tolist() == [2**40, 2**40 + 2]


def test_the_oldest_gives_way() -> None:
    buffer = ReplayBuffer(4)
    buffer.add(transitions([0.0, 1.0, 2.0]))
    buffer.add(transitions([3.0, 4.0], first=3))
    assert buffer.size == 4
    assert sorted(buffer.at(torch.arange(4)).rewards.tolist()) == [1.0, 2.0, 3.0, 4.0]
    buffer.add(transitions([float(i) for i in range(10, 19)], first=10))
    assert sorted(buffer.at(torch.arange(4)).rewards.tolist()) == [15.0, 16.0, 17.0, 18.0]


def test_sampling_is_uniform_and_seeded() -> None:
    buffer = ReplayBuffer(100)
    buffer.add(transitions([float(i) for i in range(10)]))
    first = buffer.sample(20_000, torch.Generator().manual_seed(0)).rewards
    assert torch.equal(first, buffer.sample(20_000, torch.Generator().manual_seed(0)).rewards)
    counts = torch.bincount(first.long(), minlength=10)
    assert counts.sum() == 20_000
    assert (counts - 2000).abs().max() < 200


def test_a_transition_costs_21_bytes() -> None:
    buffer = ReplayBuffer(1000)
    tensors = [value for value in vars(buffer).values() if isinstance(value, torch.Tensor)]
    assert sum(t.element_size() * t.numel() for t in tensors) == 21 * 1000
