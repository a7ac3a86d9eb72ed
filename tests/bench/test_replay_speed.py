"""Replay at ten million transitions: memory, and batches of 256 beside the least that any replay must do.

The floors are drawing 256 slots and gathering 256 rows of 32 bytes from one matrix. All are
timed in turn on one thread, and the ratios are of medians of CPU time of that thread.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dynaq.mdp.prioritised import PrioritisedReplay
from dynaq.mdp.replay import ReplayBuffer, Transitions

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

CAPACITY, CHUNK, BATCH, HISTORY, ROUNDS = 10_000_000, 500_000, 256, 20, 300
APPLICANTS, JOBS = 100_000, 1_000_000


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_batch(size: int, generator: torch.Generator) -> Transitions:
    return Transitions(
        torch.randint(APPLICANTS, (size,), generator=generator),
        torch.randint(JOBS, (size,), generator=generator),
        torch.rand(size, generator=generator),
        torch.randint(-(2**62), 2**62, (size,), generator=generator),
        torch.zeros(size, dtype=torch.bool),
    )


def fill(replay: ReplayBuffer | PrioritisedReplay) -> tuple[int, float]:
    """Bytes by which the process grew while the replay was filled, and seconds of CPU."""
    generator = torch.Generator().manual_seed(0)
    batch = random_batch(CHUNK, generator)
    gc.collect()
    before, started = resident_bytes(), time.thread_time()
    for _ in range(CAPACITY // CHUNK):
        replay.add(batch)
    return resident_bytes() - before, time.thread_time() - started


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def median_times(contenders: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Microseconds of CPU by contender, each taking its turn in every round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, call in contenders.items():
            started = time.thread_time()
            call()
            times[name].append(time.thread_time() - started)
    return {name: float(np.median(taken)) * 1e6 for name, taken in times.items()}


def test_ten_million_transitions_fit_into_a_gibibyte_and_are_drawn_at_once() -> None:
    uniform, prioritised = ReplayBuffer(CAPACITY), PrioritisedReplay(CAPACITY, alpha=0.6)
    print(f"\n{CAPACITY:,} transitions     bytes each  allocated MiB  resident MiB  fill s (CPU)")
    for name, replay in (("uniform", uniform), ("prioritised", prioritised)):
        grown, seconds = fill(replay)
        each = replay.nbytes / CAPACITY
        print(f"{name:26}{each:10.1f} {replay.nbytes / 2**20:14.0f} {grown / 2**20:13.0f} {seconds:13.1f}")
        assert each < 64
        assert max(grown, replay.nbytes) < 2**30

    generator = torch.Generator().manual_seed(1)
    rows = torch.ones(CAPACITY, 8, dtype=torch.int32)  # 32 bytes, for 29
    errors = torch.rand(BATCH, generator=generator)
    new = random_batch(BATCH, generator)

    def slots() -> torch.Tensor:
        return torch.randint(CAPACITY, (BATCH,), generator=generator)

    medians = median_times(
        {
            "floor: draw slots": slots,
            "floor: draw and gather rows": lambda: rows.index_select(0, slots()),
            "uniform sample": lambda: uniform.sample(BATCH, generator),
            "uniform add": lambda: uniform.add(new),
            f"histories of {HISTORY}": lambda: uniform.histories(slots(), HISTORY),
            "prioritised sample": lambda: prioritised.sample(BATCH, generator, beta=0.4),
            "prioritised update": lambda: prioritised.update(slots(), errors),
            "prioritised add": lambda: prioritised.add(new),
        }
    )
    floor = medians["floor: draw and gather rows"]
    print(f"\na batch of {BATCH}               microseconds  x draw and gather")
    for name, taken in medians.items():
        print(f"{name:30}{taken:12.0f} {taken / floor:18.1f}")
    # Bounds far above what was measured: they catch a cost that grows with the buffer, not a slow afternoon.
    assert medians["uniform sample"] < 30 * floor
    assert medians["prioritised sample"] < 150 * floor
    assert medians["prioritised update"] < 150 * floor
