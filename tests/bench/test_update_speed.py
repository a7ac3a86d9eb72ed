"""One Q-learning update: the textbook's, an installable peer's and ours, beside the least that any must do.

All take turns on one thread. A time is the median of CPU time over the rounds, a ratio the median of the ratios within
each round: other work on the machine then slows both sides of it. What an agent does once a synchronisation is timed
by itself, and a 500th of it is added to its update.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.targets import bellman_targets
from dynaq.config_file import load_config
from dynaq.mdp.candidates import CandidateSampler, fresh_seeds
from dynaq.mdp.features import FeatureSpace
from dynaq.mdp.replay import ReplayBuffer, Transitions
from tests.bench.dqn_peers import Floor, PeerDQN, PlainDQN, peer_dqn
from tests.paths import BASE_CONFIG

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

APPLICANTS, JOBS, D, PAIRS = 1_000, 20_000, 384, ((0, 0), (384, 384))
HIDDEN, BATCH, CANDIDATES, SYNC, GAMMA = [512, 256], 256, 100, 500, 0.3
STORED, APPLIED, ANSWERS = 50_000, 10_000, 128
ROUNDS = 15


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- the problem ----------------------------------------------------------------------------------------------------


def vectors(rows: int, generator: torch.Generator) -> Tensor:
    fields = torch.randn(rows, 2, D, generator=generator)
    return (F.normalize(fields, dim=2) * D**0.5).flatten(1)


def experience(count: int) -> Transitions:
    generator = torch.Generator().manual_seed(1)
    return Transitions(
        torch.randint(APPLICANTS, (count,), generator=generator),
        torch.randint(JOBS, (count,), generator=generator),
        torch.rand(count, generator=generator),
        fresh_seeds(count, generator),
        torch.zeros(count, dtype=torch.bool),
    )


def new_agent(space: FeatureSpace, **changes: object) -> DynaQ:
    config = load_config(BASE_CONFIG).agent
    settings = {
        "features": "concat",
        "hidden": HIDDEN,
        "batch_size": BATCH,
        "candidates": CANDIDATES,
        "target_sync": SYNC,
        "gamma": GAMMA,
        "planning": config.planning.model_copy(update={"steps": 0}),
        **changes,
    }
    agent = DynaQ(space, config.model_copy(update=settings), CandidateSampler(JOBS, CANDIDATES), seed=0)
    agent.replay.add(experience(STORED))
    return agent


# --- timing ---------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """Something that is timed, in turn with all others.

    Attributes:
        call: does it once.
        repeats: calls in each round, of which the median counts.
        amortised: what is done once in SYNC calls, if anything.
    """

    call: Callable[[], object]
    repeats: int = 1
    amortised: Row | None = None
    times: list[float] = field(default_factory=list)

    def run(self) -> None:
        taken = []
        for _ in range(self.repeats):
            started = time.process_time()
            self.call()
            taken.append(time.process_time() - started)
        self.times.append(float(np.median(taken)))
        if self.amortised:
            self.amortised.run()

    @property
    def total(self) -> np.ndarray:
        """Seconds of CPU of one call, with its share of what is amortised, by round."""
        return np.array(self.times) + (self.amortised.total / SYNC if self.amortised else 0.0)


def ratio(a: Row, b: Row) -> float:
    return float(np.median(a.total / b.total))


# --- the test -------------------------------------------------------------------------------------------------------


def test_an_update_costs_little_more_than_its_forward_and_backward(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    space = FeatureSpace(vectors(APPLICANTS, generator), vectors(JOBS, generator), PAIRS, D)
    static, moving = new_agent(space), new_agent(space, applied_from=0.9)
    plain, blocked, peer = PlainDQN(moving, BATCH), PlainDQN(moving, 4), peer_dqn(moving)
    same_targets(moving, plain)
    gone = experience(APPLIED)
    moving.applied.add(gone.applicants, gone.jobs)
    observer, answers = new_agent(space).world_model, experience(ANSWERS)

    def synchronise_static() -> None:
        static._synchronise()
        static.maxima(torch.arange(APPLICANTS))

    def synchronise_moving() -> None:
        moving._synchronise()
        moving._frozen.values(space.states[:1], torch.zeros(1, 1, dtype=torch.int64))  # the job halves

    def observe() -> None:
        observer.observe(answers.applicants, answers.jobs, answers.rewards)

    rows = {
        "floor: forward, backward": Row(Floor(static.q, BATCH), 5),
        "plain loop": Row(plain),
        "plain loop, 400 pairs at once": Row(blocked),
        **({"TorchRL DQNLoss": Row(peer)} if peer else {}),
        "ours, static state": Row(static.update, 5, Row(synchronise_static)),
        "ours, moving state": Row(moving.update, 3, Row(synchronise_moving)),
        "double, static state": Row(new_agent(space, target="double").update, 1),
        "closed form": Row(new_agent(space, target="closed_form").update, 5),
        "gamma 0": Row(new_agent(space, gamma=0.0).update, 5),
        f"world model, {ANSWERS} answers": Row(observe, 3),
    }
    for row in rows.values():  # once unmeasured: caches, page tables, the first job halves
        row.run()
        row.times.clear()
        if row.amortised:
            row.amortised.times.clear()
    for _ in range(ROUNDS):
        for row in rows.values():
            row.run()
    # Fewer than SYNC calls of each: no synchronisation fell into them.
    assert max(row.repeats for row in rows.values()) * (ROUNDS + 1) < SYNC
    report(rows)
    replay_bytes(moving, peer)
    plot(rows, Path(os.environ.get("DYNAQ_BENCH_DIR", tmp_path)))

    floor, loop = rows["floor: forward, backward"], rows["plain loop"]
    # The bounds leave room for noise: 1.3, 25 and 6 are what is asked for.
    assert ratio(rows["ours, static state"], floor) < 1.5
    assert ratio(loop, rows["ours, static state"]) > 20
    assert ratio(loop, rows["ours, moving state"]) > 5


def same_targets(ours: DynaQ, plain: PlainDQN) -> None:
    """Both compute the same: the targets of a batch are equal up to float32 rounding."""
    batch = ours.replay.at(torch.arange(BATCH))
    values = ours._frozen.values(ours.space.states[batch.applicants], ours.sampler.draw(batch.next_seeds))
    expected = bellman_targets(batch.rewards, batch.terminated, values.max(dim=1).values, GAMMA)
    torch.testing.assert_close(plain.targets(batch), expected, atol=1e-5, rtol=0)


def report(rows: dict[str, Row]) -> None:
    floor, loop = list(rows.values())[:2]
    print(
        f"\none update: {APPLICANTS:,} applicants x {JOBS:,} jobs, inputs {2 * D} + {2 * D}, hidden {HIDDEN}, batch"
        f" {BATCH}, {CANDIDATES} candidates, gamma {GAMMA}\none thread, CPU time, medians of {ROUNDS} rounds;"
        f" with 1/{SYNC} of a synchronisation where one is given"
    )
    print(f"{'':32}{'ms':>9}{'x floor':>9}{'plain /':>9}{'of it sync':>12}{'a whole sync':>14}")
    for name, row in rows.items():
        print(f"{name:32}{1e3 * np.median(row.total):9.2f}{ratio(row, floor):9.2f}{ratio(loop, row):9.1f}", end="")
        if row.amortised:
            sync = 1e3 * float(np.median(row.amortised.times))
            print(f"{sync / SYNC:12.2f}{sync:14.0f}", end="")
        print()


def replay_bytes(ours: DynaQ, peer: PeerDQN | None) -> None:
    print(f"replay, bytes a transition: ours {ReplayBuffer(STORED).nbytes / STORED:.0f}", end="")
    if peer:
        few = ours.replay.at(torch.arange(16))
        sizes = [peer.observed(few, ours.sampler, space).bytes() / 16 for space in (None, ours.space)]
        print(f", TorchRL {sizes[0]:,.0f} with rows of the catalogue (as timed), {sizes[1]:,.0f} with vectors", end="")
    print()


def plot(rows: dict[str, Row], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(list(rows), [1e3 * float(np.median(row.total)) for row in rows.values()])
        axes.bar_label(bars, fmt="%.1f", padding=3)
        axes.set(xscale="log", xlabel="CPU milliseconds an update, one thread")
        axes.invert_yaxis()
        axes.margins(x=0.15)
        figure.savefig(folder / "update_speed.png", dpi=150)
    print(f"plot: {folder / 'update_speed.png'}")
