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
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.panel import make_panel
from dynaq.evaluation.world import OWN, World
from flows.fan_out import fan_out
from tasks.compare import run_contestant
from tests.paths import BASE_CONFIG

NAMES = ("contestant", "seed", "start")
WORLDS = [World(OWN), World("cosine", 0.5)]


@pytest.mark.usefixtures("in_prefect")
def test_two_processes_give_the_numbers_of_one(small_snapshot: Snapshot, tmp_path: Path) -> None:
    def config(workdir: str) -> Config:
        quick = {"workdir": str(tmp_path / workdir), "agent.hidden": [32], "agent.dropout": 0.1}
        quick |= {"pretrain.steps": 4, "compare.steps": 5, "compare.window": 2, "compare.applicants": 8}
        quick |= {"agent.hand_over.pilot": 10}
        return load_config(BASE_CONFIG, quick)

    here = config("parallel")
    shared = {"snapshot": small_snapshot.path, "panel": make_panel(here, small_snapshot, None, {}), "worlds": WORLDS}
    start = stages.pretrain(here, small_snapshot, Arm("cosine", 0.3, 0))
    many = [(Contestant("cosine", 0.3), 0, start)]
    many += [(Contestant(kind, 0.3), 1, None) for kind in ("baseline", "bandit", "ranker")]
    calls = {each[:2]: {**shared, **dict(zip(NAMES, each, strict=True))} for each in many}
    broken = {**shared, **dict(zip(NAMES, (Contestant("cosine", 0.3), 9, tmp_path), strict=True))}
    with pytest.raises(ArtifactError, match="no checkpoint"):
        fan_out(run_contestant, {key: {"config": here, **call} for key, call in {"broken": broken, **calls}.items()}, 2)
    finished = {path.parent: path.stat().st_mtime_ns for path in (tmp_path / "parallel").rglob("run.json")}
    parallel = fan_out(run_contestant, {key: {"config": here, **call} for key, call in calls.items()}, 1)
    assert {path: (path / "run.json").stat().st_mtime_ns for paths in parallel.values() for path in paths} == finished
    for key, paths in parallel.items():
        alone = run_contestant.fn(config=config("alone"), **calls[key])
        assert [path.name for path in alone] == [path.name for path in paths]
        for one, other in zip(alone, paths, strict=True):
            for name in ("run.npz", "run.json"):
                assert (one / name).read_bytes() == (other / name).read_bytes(), key
