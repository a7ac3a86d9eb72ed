"""Prioritised replay: the tree against brute force, the draw against the priorities, the weights by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dynaq.errors import ArtifactError, InputError
from dynaq.mdp.prioritised import PrioritisedReplay, SumTree
from dynaq.mdp.replay import Transitions


def transitions(count: int, first: int = 0) -> Transitions:
    rows = torch.arange(first, first + count)
    return Transitions(rows % 5, rows, rows.float(), rows, torch.zeros(count, dtype=torch.bool))


def with_errors(errors: list[float], alpha: float, capacity: int = 100) -> PrioritisedReplay:
    replay = PrioritisedReplay(capacity, alpha)
    replay.update(replay.add(transitions(len(errors))), torch.tensor(errors))
    return replay


@pytest.mark.parametrize("size", [1, 31, 32, 33, 1024, 1025, 40_000])
def test_the_tree_finds_what_a_cumulative_sum_finds(size: int) -> None:
    """Weights are multiples of 1/256, so that every sum is exact and the answers must be equal, edges included."""
    dice = np.random.default_rng(size)
    tree, weights = SumTree(size), np.zeros(size)
    for count in dice.integers(1, size + 1, 20):
        places = dice.permutation(size)[:count]
        weights[places] = dice.integers(0, 1000, count) / 256 * (dice.random(count) < 0.7)
        tree.assign(torch.from_numpy(places), torch.from_numpy(weights[places]))
    weights[0] = 1.0
    tree.assign(torch.tensor([0]), torch.ones(1, dtype=torch.float64))
    edges = np.cumsum(weights)
    assert tree.total.item() == edges[-1]
    sums = np.concatenate([dice.random(2000) * edges[-1], np.concatenate([[0.0], edges[edges < edges[-1]]])])
    found = tree.find(torch.from_numpy(sums)).numpy()
    assert (found == np.searchsorted(edges, sums, side="right")).all()
    assert (weights[found] > 0).all()


def test_sums_stay_exact_over_a_million_updates_and_no_sum_falls_off_the_end() -> None:
    tree = SumTree(5000)
    dice = torch.Generator().manual_seed(0)
    for _ in range(1000):
        places = torch.randperm(5000, generator=dice)[:1000]
        tree.assign(places, 10 ** (12 * torch.rand(1000, dtype=torch.float64, generator=dice) - 6))
    again = SumTree(5000)
    again.assign(torch.arange(5000), tree.weights[:5000])
    assert tree.total == again.total
    np.testing.assert_allclose(tree.total.item(), tree.weights.numpy().sum(), rtol=1e-14)
    last = tree.weights.nonzero().max()
    assert tree.find(tree.total * torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64)).tolist() == [last, last]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_frequencies_follow_priorities(alpha: float) -> None:
    errors = [0.1, 4.0, 1.0, 0.0, -2.0, 0.5]
    replay = with_errors(errors, alpha)
    generator = torch.Generator().manual_seed(0)
    priorities = (np.abs(errors) + 1e-6) ** alpha
    expected = priorities / priorities.sum()
    counts = np.zeros(6)
    for _ in range(400):  # small batches, so that the strata cut across transitions
        drawn, _ = replay.sample(50, generator, beta=0.4)
        assert drawn.slots is not None
        counts += np.bincount(drawn.slots.numpy(), minlength=6)
    # A stratified draw varies less than independent ones would, whose standard deviation this is.
    deviation = np.sqrt(20_000 * expected * (1 - expected)) + 1e-9
    assert (np.abs(counts - 20_000 * expected) < 4 * deviation + 1).all()


def test_weights_by_hand() -> None:
    """P = 4/8, 3/8, 1/8 of 3 transitions; (3 P)^-beta over its largest, that of the rarest."""
    replay = with_errors([4.0, 3.0, 1.0], alpha=1.0)
    drawn, weights = replay.sample(300, torch.Generator().manual_seed(0), beta=0.5)
    by_slot = {int(slot): float(weight) for slot, weight in zip(drawn.slots, weights, strict=True)}  # type: ignore[arg-type]
    assert by_slot == pytest.approx({0: (1 / 4) ** 0.5, 1: (1 / 3) ** 0.5, 2: 1.0}, rel=1e-5)
    _, unbiased = replay.sample(300, torch.Generator().manual_seed(0), beta=0.0)
    assert (unbiased == 1).all()
    drawn, weights = replay.sample(3000, torch.Generator().manual_seed(0), beta=1.0)
    # With beta = 1 a weighted mean over the draw is the plain mean over the buffer: rewards are 0, 1, 2.
    assert (weights * drawn.rewards).sum() / weights.sum() == pytest.approx(1.0, abs=0.01)


def shares(replay: PrioritisedReplay) -> list[float]:
    """Priorities as the saved tensors have them, over their sum."""
    priorities = replay.tensors()["priorities"]
    return (priorities / priorities.sum()).tolist()


def test_new_transitions_get_the_largest_priority_so_far() -> None:
    replay = with_errors([3.0, 1.0], alpha=1.0, capacity=4)
    replay.update(torch.tensor([0]), torch.tensor([1.0]))  # the largest was 3 and is remembered
    replay.add(transitions(1))
    assert shares(replay) == pytest.approx([0.2, 0.2, 0.6], rel=1e-5)
    replay.add(transitions(3))  # the ring comes round: slots 3, 0 and 1 are new
    assert shares(replay) == pytest.approx([0.25] * 4, rel=1e-5)


def test_the_largest_error_of_a_slot_counts_whatever_the_order() -> None:
    replay = with_errors([1.0, 1.0], alpha=1.0)
    replay.update(torch.tensor([1, 0, 1, 1]), torch.tensor([1.0, 1.0, -3.0, 2.0]))
    assert shares(replay) == pytest.approx([0.25, 0.75], rel=1e-5)


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_an_error_that_is_not_finite_is_refused_and_changes_nothing(error: float) -> None:
    replay = with_errors([1.0, 3.0], alpha=1.0)
    with pytest.raises(InputError, match="TD error is not finite"):
        replay.update(torch.tensor([0, 1]), torch.tensor([5.0, error]))
    assert shares(replay) == pytest.approx([0.25, 0.75], rel=1e-5)


def test_a_restored_replay_goes_on_as_the_one_that_was_saved(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    replay = PrioritisedReplay(200, 0.6)
    for round_ in range(30):
        slots = replay.add(transitions(9, first=round_))
        replay.update(slots, torch.randn(9, generator=generator))
    save_file(replay.tensors(), tmp_path / "replay.safetensors")
    restored = PrioritisedReplay(200, 0.6)
    restored.update(restored.add(transitions(150)), torch.full((150,), 50.0))  # to be forgotten
    restored.load(load_file(tmp_path / "replay.safetensors"))

    def go_on(each: PrioritisedReplay) -> list[Tensor]:
        dice = torch.Generator().manual_seed(2)
        seen = []
        for _ in range(20):
            each.add(transitions(3))
            drawn, weights = each.sample(32, dice, beta=0.4)
            assert drawn.slots is not None
            each.update(drawn.slots, torch.randn(32, generator=dice))
            seen += [drawn.slots, drawn.rewards, weights]
        return seen

    assert all(torch.equal(a, b) for a, b in zip(go_on(replay), go_on(restored), strict=True))


def test_tensors_of_another_replay_are_refused() -> None:
    replay = with_errors([1.0, 2.0], alpha=1.0)
    with pytest.raises(ArtifactError, match="lacks largest_priority, priorities"):
        PrioritisedReplay(100, 1.0).load(replay.buffer.tensors())
    with pytest.raises(ArtifactError, match="capacity of 100, the configured one of 50"):
        PrioritisedReplay(50, 1.0).load(replay.tensors())
    with pytest.raises(ArtifactError, match=r"priorities of the saved replay is torch.float32 \[2\]"):
        PrioritisedReplay(100, 1.0).load({**replay.tensors(), "priorities": torch.zeros(2)})


def test_a_transition_costs_less_than_64_bytes() -> None:
    assert PrioritisedReplay(10_000_000, 0.6).nbytes < 38 * 10_000_000 < 2**30
    assert PrioritisedReplay(1025, 0.6).nbytes < 64 * 1025
