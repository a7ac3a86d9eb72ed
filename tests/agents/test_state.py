"""The same seed gives the same agent, in any process; and one that was interrupted goes on as if nothing had been."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.state import agent_state, learned, load_agent_state, load_learned
from dynaq.agents.trainer import Curves, learn
from dynaq.errors import ArtifactError
from dynaq.mdp.environment import TrainingEnvironment
from dynaq.tracking.progress import Progress
from tests.agents.conftest import HISTORY, TableReward, cosines, new_agent, random_space, small_config
from tests.paths import ROOT

SPACE = random_space(60, 40)
STEPS = 6
PLANNING = {"planning__steps": 3, "world_model__held_out_share": 0.3}  # enough of it for a skill within some steps
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "prioritised, with dropout": {"replay__alpha": 0.6, "dropout": 0.2},
    "history": {"history": HISTORY},
    "soft target": {"target_share": 0.3, "target_sync": 1},
    "soft target now and then": {"target_share": 0.3, "target_sync": 5, "gamma": 0.9, "hidden": [64, 32]},
    "soft hand-over": {"target_share": 0.3, "target_sync": 1, "hand_over__pilot": 130, "hidden": [64, 32]},
    "double, centred, applied": {"target": "double", "reward_centring": 0.1, "applied_from": 0.6},
    "a ring that comes round": {"replay__capacity": 50},
    "hand-over": {"hand_over__pilot": 130, "hand_over__earlier": 60, "hand_over__warmup": 9, "replay__alpha": 0.6},
    "hand-over of a history": {"hand_over__pilot": 130, "hand_over__earlier": 60, "history": HISTORY},
}
CHANGED_HANDS = ("soft hand-over", "hand-over", "hand-over of a history")


class Market(TrainingEnvironment):
    """Nobody answers at every third step; the process dies at one of them."""

    dies_at = -1

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        if step == self.dies_at:
            raise KeyboardInterrupt
        answers = super().rewards(step, applicants, jobs)
        return torch.full_like(answers, float("nan")) if step % 3 == 2 else answers


def market(agent: DynaQ, reward: Tensor, rows: int = 50) -> Market:
    return Market(TableReward(reward), torch.arange(60), rows, agent.sampler, torch.Generator().manual_seed(5))


def started(case: str, earlier: dict[str, Tensor]) -> DynaQ:
    """A fresh agent of a case; if it takes over from another reward, its pilot ends in the middle of the run."""
    agent = new_agent(SPACE, small_config(**({"candidates": 12, "gamma": 0.5} | PLANNING | CASES[case])))
    if earlier:
        load_learned(agent, {name: tensor.clone() for name, tensor in earlier.items()}, "earlier")
        agent.start_phase((1.0, 0.5, -0.1))
    return agent


def rewards(handed_over: bool) -> Tensor:
    """The cosine first; later answers that it does not tell: jobs that everyone applies to, and others."""
    wanted = (SPACE.actions[:, 0] > 0).long().expand(len(SPACE.states), -1)
    return torch.tensor([-0.1, 1.0])[wanted] if handed_over else cosines(SPACE)


def warm_start(case: str) -> dict[str, Tensor]:
    agent = started(case, {})
    learn(agent, market(agent, cosines(SPACE)), 3, 4, lambda _: 0.5, seed=1)
    return learned(agent)


def run(agent: DynaQ, world: Market, progress: Progress | None = None) -> Curves:
    return learn(agent, world, STEPS, 3, lambda step: 0.5 / (step + 1), seed=3, progress=progress)


def comparable(agent: DynaQ) -> dict[str, Tensor]:
    """Everything an agent is; which events the ring has come round over is all the same."""
    state = agent_state(agent)
    for buffer in ("replay", "earlier"):
        capacity, added = state[f"{buffer}.counters"].tolist()
        state[f"{buffer}.previous"] = state[f"{buffer}.previous"].clamp(min=added - min(added, capacity) - 1)
    return state


def assert_same(agent: DynaQ, other: DynaQ) -> None:
    ours, theirs = comparable(agent), comparable(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("case", CASES)
def test_interrupted_anywhere_it_ends_as_if_nothing_had_been(case: str, tmp_path: Path) -> None:
    earlier = warm_start(case) if case in CHANGED_HANDS else {}
    whole = started(case, earlier)
    curves = run(whole, market(whole, rewards(bool(earlier))))
    assert np.nansum(curves.values["planning_steps"]) > 0  # everything was at work
    assert whole.updates < 3 * STEPS or not earlier  # and a pilot took some steps
    file = tmp_path / "run.progress"
    for step in range(STEPS):  # it dies at every step, and is started again
        dying = started(case, earlier)
        world = market(dying, rewards(bool(earlier)))
        world.dies_at = step
        with pytest.raises(KeyboardInterrupt):
            run(dying, world, Progress(file, tmp_path, 0.0))
        assert file.exists() == (step > 0)
        torch.rand(step)  # another process has another past
    last = started(case, earlier)
    resumed = run(last, market(last, rewards(bool(earlier))), Progress(file, tmp_path, 0.0))
    assert_same(last, whole)
    for name, values in curves.values.items():
        assert np.array_equal(resumed.values[name], values, equal_nan=True), name


def test_damaged_progress_begins_anew_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run.progress").write_bytes(b"half a file")
    whole, again = (started("plain", {}) for _ in range(2))
    curves = run(whole, market(whole, rewards(False)))
    with caplog.at_level(logging.WARNING):
        resumed = run(again, market(again, rewards(False)), Progress(tmp_path / "run.progress", tmp_path, 0.0))
    assert "run.progress is damaged" in caplog.text
    assert_same(again, whole)
    assert np.array_equal(resumed.values["q_loss"], curves.values["q_loss"], equal_nan=True)


@pytest.mark.parametrize(
    "changes",
    [{"hidden": [16, 16]}, {"replay__capacity": 77}, {"history": HISTORY}],
)
def test_what_another_configuration_has_learned_is_refused_in_one_sentence(changes: dict[str, Any]) -> None:
    saved = learned(started("plain", {}))
    other = new_agent(SPACE, small_config(candidates=12, gamma=0.5, **(PLANNING | changes)))
    with pytest.raises(ArtifactError, match=r"checkpoint yesterday was trained|capacity of 100000"):
        load_learned(other, saved, "yesterday")


def test_a_state_is_taken_over_whole() -> None:
    agent = started("hand-over", warm_start("hand-over"))
    run(agent, market(agent, rewards(True)))
    other = started("hand-over", learned(started("plain", {})))
    load_agent_state(other, {name: tensor.clone() for name, tensor in agent_state(agent).items()})
    assert_same(other, agent)


# --- determinism ------------------------------------------------------------------------------------------------


def fingerprint(seed: int) -> str:
    """Hash of everything an agent is after a short life with planning, dropout and a hand-over."""
    torch.set_num_threads(1)
    changes = {"dropout": 0.2, "replay__alpha": 0.6, "hand_over__pilot": 20, **PLANNING}
    agent = new_agent(SPACE, small_config(candidates=12, features="product", **changes), seed)
    learn(agent, market(agent, cosines(SPACE)), 3, 3, lambda _: 0.5, seed)
    agent.start_phase((1.0, 0.5, -0.1))
    learn(agent, market(agent, rewards(True)), 3, 3, lambda _: 0.5, seed)
    digest = hashlib.sha256()
    for name, tensor in sorted(agent_state(agent).items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def test_same_seed_same_agent_and_another_seed_another() -> None:
    first = fingerprint(0)
    torch.rand(3)  # whatever the global generator did before
    assert fingerprint(0) == first
    assert fingerprint(1) != first


def test_a_fresh_process_gives_the_same_bits() -> None:
    """Other hash salts, another past of the global generator, nothing warmed up."""
    code = "from tests.agents.test_state import fingerprint; print(fingerprint(0))"
    fresh = os.environ | {"PYTHONHASHSEED": "7"}
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True, env=fresh)
    assert printed.strip() == fingerprint(0)
