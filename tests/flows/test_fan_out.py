"""Processes give the numbers that one after the other gives, and errors do not lose what others finished."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

from dynaq.agents import stages
from dynaq.agents.arms import Arm
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError, MissingDependencyError, TransientError
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.world import OWN, World
from dynaq.evaluation.online import online_path
from dynaq.evaluation.panel import make_panel
from flows.fan_out import fan_out
from tasks.compare import run_contestant
from tasks.retry import give_up_unless_transient
from tests.paths import BASE_CONFIG

NAMES = ("contestant", "seed", "start")
WORLDS = [World(OWN), World("cosine", 0.5)]


Calls = dict[Any, dict[str, Any]]


def config(workdir: Path, **changes: Any) -> Config:
    quick = {"workdir": str(workdir), "agent.hidden": [32], "agent.dropout": 0.1}
    quick |= {"pretrain.steps": 4, "compare.steps": 5, "compare.window": 2, "compare.applicants": 8}
    return load_config(BASE_CONFIG, {**quick, "agent.hand_over.pilot": 10, **changes})


def calls_of(config: Config, snapshot: Snapshot) -> Calls:
    """Four contestants, one of them trained before, in two worlds."""
    shared = {"config": config, "snapshot": snapshot.path, "worlds": WORLDS}
    shared["panel"] = make_panel(config, snapshot, None, {})
    start = stages.pretrain(config, snapshot, Arm("cosine", 0.3, 0))
    many = [(Contestant("cosine", 0.3), 0, start)]
    many += [(Contestant(kind, 0.3), 1, None) for kind in ("baseline", "bandit", "ranker")]
    return {each[:2]: {**shared, **dict(zip(NAMES, each, strict=True))} for each in many}


def content(results: dict[Any, list[Path]]) -> dict[str, bytes]:
    """Every byte of the results, by file."""
    return {
        f"{path.parent.name}/{path.name}/{name}": (path / name).read_bytes()
        for paths in results.values()
        for path in paths
        for name in ("run.npz", "run.json")
    }


@pytest.mark.usefixtures("in_prefect")
def test_processes_give_the_numbers_of_one_and_an_error_loses_nothing(small_snapshot: Snapshot, tmp_path: Path) -> None:
    here = config(tmp_path / "parallel")
    calls = calls_of(here, small_snapshot)
    broken = {**next(iter(calls.values())), "seed": 9, "start": tmp_path}
    with pytest.raises(ArtifactError, match="no checkpoint"):
        fan_out(run_contestant, {"broken": broken, **calls}, here)
    finished = {path: path.stat().st_mtime_ns for path in here.work_path.rglob("run.json")}
    assert len(finished) == 8
    parallel = fan_out(run_contestant, calls, here)
    assert {path: path.stat().st_mtime_ns for path in here.work_path.rglob("run.json")} == finished
    alone = {key: run_contestant.fn(**call) for key, call in calls_of(config(tmp_path / "one"), small_snapshot).items()}
    assert content(alone) == content(parallel)


@pytest.mark.usefixtures("in_prefect")
def test_what_is_there_takes_no_process_and_what_is_damaged_does(
    small_snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = config(tmp_path)
    calls = calls_of(here, small_snapshot)
    alone = {key: run_contestant.fn(**call) for key, call in calls.items()}
    whole = content(alone)

    def results(key: tuple[Contestant, int]) -> list[Path]:
        call = calls[key]
        return [
            online_path(here, small_snapshot, call["panel"], key[0], each, key[1], call["start"]) for each in WORLDS
        ]

    with monkeypatch.context() as nowhere:
        nowhere.setattr("flows.fan_out._runner", None)
        assert fan_out(run_contestant, calls, here, results) == alone
    cosine, bandit = (Contestant("cosine", 0.3), 0), (Contestant("bandit", 0.3), 1)
    (alone[bandit][1] / "run.npz").write_bytes(b"damaged")
    calls = {cosine: {**calls[cosine], "seed": 9, "start": tmp_path}, bandit: calls[bandit]}
    with pytest.raises(ArtifactError, match="no checkpoint"):  # what is there, by its name, cannot be found
        fan_out(run_contestant, calls, here, lambda key: alone[key])
    assert content(alone) == whole


@task
def killed(marker: Path, times: float) -> str:
    """As by a kernel that is out of memory, so many times."""
    with marker.open("a") as file:
        file.write("x")
    if marker.stat().st_size <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@flow(retries=1, retry_delay_seconds=0)
@give_up_unless_transient
def night(workdir: str) -> str:
    return fan_out(killed, {"one": {"marker": Path(workdir) / "marker", "times": 1}}, config(Path(workdir)))["one"]


@pytest.mark.usefixtures("in_prefect")
def test_a_night_whose_worker_is_killed_is_tried_again(tmp_path: Path) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(night), "killed")
        run = client.create_flow_run_from_deployment(deployment)
        assert run_flow(night, flow_run=run, parameters={"workdir": str(tmp_path)}) == "done"
        assert client.read_flow_run(run.id).run_count == 2


@pytest.mark.slow
@pytest.mark.usefixtures("in_prefect")
@pytest.mark.filterwarnings("default")  # of Dask's own
def test_a_worker_of_dask_that_is_killed_again_and_again_may_pass(tmp_path: Path) -> None:
    call = {"marker": tmp_path / "marker", "times": float("inf")}
    with pytest.raises(TransientError, match="a process of killed was killed: if memory is short"):
        fan_out(killed, {"one": call}, config(tmp_path, dask="local"))


@pytest.mark.slow
@pytest.mark.usefixtures("in_prefect")
@pytest.mark.filterwarnings("default")  # of Dask's own
def test_four_processes_and_a_dask_cluster_give_the_same_bytes(small_snapshot: Snapshot, tmp_path: Path) -> None:
    four, dask = config(tmp_path / "four", processes=4), config(tmp_path / "dask", dask="local")
    found = [content(fan_out(run_contestant, calls_of(each, small_snapshot), each)) for each in (four, dask)]
    assert found[0] == found[1]
    assert len(found[0]) == 16


def test_dask_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    with pytest.raises(MissingDependencyError, match=r"dask is 'tcp://host:8786', and prefect-dask is not installed"):
        fan_out(run_contestant, {"one": {}}, config(tmp_path, dask="tcp://host:8786"))
