"""Processes give the numbers that one after the other gives, and errors do not lose what others finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynaq.agents import stages
from dynaq.agents.arms import Arm
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError
from flows.fan_out import fan_out
from tasks.compare import run_arm
from tests.paths import BASE_CONFIG


@pytest.mark.usefixtures("in_prefect")
def test_two_processes_give_the_numbers_of_one(small_snapshot: Snapshot, tmp_path: Path) -> None:
    def config(workdir: str) -> Config:
        quick = {"workdir": str(tmp_path / workdir), "agent.hidden": [32], "agent.dropout": 0.1}
        quick |= {"pretrain.steps": 4, "compare.steps": 5, "compare.window": 2, "compare.applicants": 8}
        quick |= {"agent.hand_over.pilot": 10}
        return load_config(BASE_CONFIG, quick)

    many = [Arm("baseline", gamma, seed) for gamma in (0.3, 0.0) for seed in (0, 1)]
    shared = {"config": config("parallel"), "snapshot": small_snapshot.path}
    start = stages.pretrain(shared["config"], small_snapshot, Arm("cosine", 0.3, 0))
    calls = {arm: {**shared, "arm": arm, "checkpoint": start if arm.seed == 0 else None} for arm in many}
    broken = Arm("baseline", 0.3, 9)
    with pytest.raises(ArtifactError, match="no checkpoint"):
        fan_out(run_arm, {broken: {**shared, "arm": broken, "checkpoint": tmp_path}, **calls}, 2)
    finished = {path.parent: path.stat().st_mtime_ns for path in (tmp_path / "parallel").rglob("run.json")}
    parallel = fan_out(run_arm, calls, 1)
    assert {path: (path / "run.json").stat().st_mtime_ns for path in parallel.values()} == finished
    for arm, path in parallel.items():
        alone = run_arm.fn(config("alone"), small_snapshot.path, arm, start if arm.seed == 0 else None)
        assert alone.name == path.name
        for name in ("rewards.npy", "run.json"):
            assert (alone / name).read_bytes() == (path / name).read_bytes(), arm
