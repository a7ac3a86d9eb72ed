"""The ring buffer: what it keeps, what gives way, whose events it chains, what it costs, and that it is restored."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dynaq.errors import ArtifactError
from dynaq.mdp.replay import ReplayBuffer, Transitions

NAN = float("nan")


def transitions(rewards: list[float], first: int = 0) -> Transitions:
    rows = torch.arange(first, first + len(rewards))
    return Transitions(rows, rows * 10, torch.tensor(rewards), rows + 2**40, torch.zeros(len(rows), dtype=torch.bool))


def events(applicants: list[int], rewards: list[float] | None = None) -> Transitions:
    """Transitions of the given applicants."""
    rows = torch.tensor(applicants, dtype=torch.int64)
    numbers = torch.zeros(len(rows)) if rewards is None else torch.tensor(rewards)
    return Transitions(rows, rows, numbers, rows, torch.zeros(len(rows), dtype=torch.bool))


def random_batch(size: int, applicants: int, generator: torch.Generator) -> Transitions:
    return Transitions(
        torch.randint(applicants, (size,), generator=generator),
        torch.randint(1000, (size,), generator=generator),
        torch.rand(size, generator=generator),
        torch.randint(-(2**62), 2**62, (size,), generator=generator),
        torch.rand(size, generator=generator) < 0.5,
    )


def fields(batch: Transitions) -> list[Tensor]:
    return [value for value in vars(batch).values() if value is not None]


def test_missing_rewards_are_left_out_and_never_guessed() -> None:
    buffer = ReplayBuffer(10)
    buffer.add(transitions([1.0, NAN, 3.0]))
    assert buffer.size == 2
    kept = buffer.at(torch.arange(2))
    assert kept.applicants.tolist() == [0, 2]
    assert kept.jobs.tolist() == [0, 20]
    assert kept.rewards.tolist() == [1.0, 3.0]
    assert kept.next_seeds.tolist() == [2**40, 2**40 + 2]


def test_nothing_to_add_changes_nothing() -> None:
    buffer = ReplayBuffer(10)
    assert buffer.add(transitions([NAN, NAN])).tolist() == []
    assert buffer.size == 0
    assert buffer.newest(5).slots is not None
    assert len(buffer.newest(5).rewards) == 0


def test_the_oldest_gives_way() -> None:
    buffer = ReplayBuffer(4)
    buffer.add(transitions([0.0, 1.0, 2.0]))
    buffer.add(transitions([3.0, 4.0], first=3))
    assert buffer.size == 4
    assert sorted(buffer.at(torch.arange(4)).rewards.tolist()) == [1.0, 2.0, 3.0, 4.0]
    assert buffer.newest(3).rewards.tolist() == [2.0, 3.0, 4.0]
    buffer.add(transitions([float(i) for i in range(10, 19)], first=10))
    assert sorted(buffer.at(torch.arange(4)).rewards.tolist()) == [15.0, 16.0, 17.0, 18.0]


def test_sampling_is_uniform_and_seeded() -> None:
    buffer = ReplayBuffer(100)
    buffer.add(transitions([float(i) for i in range(10)]))
    drawn = buffer.sample(20_000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.rewards, buffer.sample(20_000, torch.Generator().manual_seed(0)).rewards)
    assert drawn.slots is not None
    assert torch.equal(buffer.at(drawn.slots).rewards, drawn.rewards)
    counts = torch.bincount(drawn.rewards.long(), minlength=10)
    assert counts.sum() == 20_000
    assert (counts - 2000).abs().max() < 200


def test_a_history_is_the_applicants_own_earlier_events() -> None:
    buffer = ReplayBuffer(10)
    slots = buffer.add(events([7, 3, 7, 7, 3], [1.0, 1.0, 1.0, NAN, 1.0]))  # slots 0 1 2 - 3
    assert slots.tolist() == [0, 1, 2, 3]
    slots = buffer.add(events([3, 7, 5]))  # 4 5 6
    assert buffer.histories(slots, 3).tolist() == [[-1, 1, 3], [-1, 0, 2], [-1, -1, -1]]
    assert buffer.histories(slots, 1).tolist() == [[3], [2], [-1]]
    assert buffer.histories(torch.tensor([2, 2, 0]), 2).tolist() == [[-1, 0], [-1, 0], [-1, -1]]


def test_histories_agree_with_a_list_of_everything_that_happened() -> None:
    """Batches of any size, also larger than the ring, which comes round many times."""
    dice = random.Random(0)
    buffer = ReplayBuffer(37)
    happened: list[tuple[int, int]] = []  # (slot, applicant) of each event in order
    for _ in range(60):
        applicants = [dice.randrange(6) for _ in range(dice.choice([0, 1, 5, 20, 36, 37, 38, 90]))]
        slots = buffer.add(events(applicants)).tolist()
        happened += zip(slots, applicants[len(applicants) - len(slots) :], strict=True)
        alive = happened[-37:]
        for place, (slot, applicant) in enumerate(alive):
            before = [other for other, who in alive[:place] if who == applicant][-4:]
            expected = [-1] * (4 - len(before)) + before
            assert buffer.histories(torch.tensor([slot]), 4)[0].tolist() == expected


@pytest.mark.parametrize("added", [0, 30, 50, 130])
def test_a_restored_buffer_goes_on_as_the_one_that_was_saved(added: int, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    buffer = ReplayBuffer(50)
    for _ in range(added // 10):
        buffer.add(random_batch(10, 8, generator))
    save_file(buffer.tensors(), tmp_path / "replay.safetensors")
    assert buffer.tensors()["rewards"].numel() == min(added, 50)  # only what is filled

    restored = ReplayBuffer(50)
    restored.add(random_batch(20, 20, torch.Generator().manual_seed(3)))  # to be forgotten
    restored.load(load_file(tmp_path / "replay.safetensors"))
    assert restored.size == buffer.size
    if added:
        for each in (buffer, restored):
            generator.manual_seed(2)
            each.add(random_batch(7, 12, generator))
        first, second = (b.sample(64, torch.Generator().manual_seed(4)) for b in (buffer, restored))
        assert all(torch.equal(a, b) for a, b in zip(fields(first), fields(second), strict=True))
        slots = torch.arange(buffer.size)
        assert torch.equal(buffer.histories(slots, 5), restored.histories(slots, 5))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rewards": None}, "lacks rewards: train again"),
        ({"rewards": torch.zeros(3)}, r"rewards of the saved replay is torch.float32 \[3\] where torch.float32 \[2\]"),
        ({"jobs": torch.zeros(2)}, r"jobs of the saved replay is torch.float32 \[2\] where torch.int32 \[2\] belongs"),
        ({"counters": torch.tensor([9, 2])}, "capacity of 9, the configured one of 4: set agent.replay.capacity to 9"),
        ({"counters": torch.tensor([4])}, r"counters of the saved replay is torch.int64 \[1\]"),
    ],
)
def test_tensors_of_another_buffer_are_refused(change: dict[str, Tensor | None], words: str) -> None:
    buffer = ReplayBuffer(4)
    buffer.add(transitions([1.0, 2.0]))
    changed = {name: tensor for name, tensor in {**buffer.tensors(), **change}.items() if tensor is not None}
    with pytest.raises(ArtifactError, match=words):
        ReplayBuffer(4).load(changed)


def test_a_transition_costs_29_bytes_and_10_million_fit_into_a_gibibyte() -> None:
    buffer = ReplayBuffer(10_000_000)
    assert buffer.nbytes == 29 * 10_000_000 < 2**30
    buffer.add(events([99_999]))
    assert buffer.nbytes == 29 * 10_000_000 + 8 * 100_000  # and 8 an applicant


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_taken_as_the_ring_fills() -> None:
    before = resident_bytes()
    buffer = ReplayBuffer(10_000_000)
    buffer.add(random_batch(1000, 1000, torch.Generator().manual_seed(0)))
    assert resident_bytes() - before < 40e6


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
