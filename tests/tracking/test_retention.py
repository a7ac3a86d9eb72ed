"""Retention: what the last nights have used and what a champion needs stays, the rest goes, and nothing by halves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from dynaq.artifacts import finished, publish
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.errors import TransientError
from dynaq.evaluation.champion import Decision
from dynaq.tracking.checkpoint import load_checkpoint, save_checkpoint
from dynaq.tracking.mlflow_tracker import RunRecord
from dynaq.tracking.registry import Registry
from dynaq.tracking.retention import prune
from dynaq.tracking.spool import put
from flows.children import free_port
from tasks.champion import crown, fetch_champion
from tests.checkpoints import a_manifest
from tests.paths import BASE_CONFIG

DAY, NOW = 24 * 3600, time.time()
KINDS = ("snapshots", "splits", "checkpoints", "panels", "online/own", "titles", "graded", "fairness", "damaged")


def write(path: Path, days_ago: float) -> Path:
    """A result of 10 bytes beside its digests, last used so many days ago."""
    with publish(path) as directory:
        (directory / "numbers").write_bytes(bytes(10))
    os.utime(path, (NOW - days_ago * DAY,) * 2)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for the module: creating its tables takes MLflow seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    MlflowClient(uri).search_experiments()
    return uri


@pytest.fixture
def config(tmp_path: Path, store: str) -> Config:
    """Of a working directory with four reports: of 9, 6 and 3 days ago and of now; three nights are kept."""
    for days_ago in (9, 6, 3, 0):
        write(tmp_path / "reports" / str(days_ago), days_ago)
    return load_config(BASE_CONFIG, {"workdir": str(tmp_path), "retention.nights": 3, "tracking.uri": store})


def left(config: Config, kind: str) -> set[str]:
    return {path.name for path in (config.work_path / kind).iterdir()}


def test_what_none_of_the_last_nights_has_used_goes(config: Config) -> None:
    for kind in KINDS:
        for days_ago in (10, 9.01, 8.9, 5, 0):
            write(config.work_path / kind / f"used-{days_ago}", days_ago)
    used = write(config.work_path / "panels" / "old but used", 30)
    assert finished(used, config.work_path)
    progress = config.work_path / "checkpoints" / "killed.progress"  # of older code
    progress.write_bytes(bytes(7))
    os.utime(progress, (NOW - 20 * DAY,) * 2)
    for paid in ("audits", "mongodb", "mlartifacts"):
        write(config.work_path / paid / "ancient", 1000)

    removed = prune(config, since=NOW)

    for kind in KINDS:
        assert left(config, kind) - {used.name} == {"used-8.9", "used-5", "used-0"}
    assert left(config, "reports") == {"6", "3", "0"}
    assert used.exists()
    assert all((config.work_path / paid / "ancient").exists() for paid in ("audits", "mongodb", "mlartifacts"))
    size = sum(path.stat().st_size for path in used.iterdir())
    assert {kind: sorted(sizes) for kind, sizes in removed.items()} == {
        kind.split("/")[0]: [size] * 2 for kind in KINDS
    } | {"reports": [size], "checkpoints": [7, size, size]}
    assert prune(config, since=NOW) == {}  # four reports are needed for more


def test_a_night_under_way_keeps_what_it_uses(config: Config) -> None:
    write(config.work_path / "online" / "own" / "of a night that began long ago", 9.5)
    assert prune(config, since=NOW - 9.6 * DAY) == {}
    for report in (config.work_path / "reports").iterdir():
        os.utime(report, (NOW - 60,) * 2)
    write(config.work_path / "online" / "own" / "of another night, hours ago", 0.9)
    assert prune(config, since=NOW) == {"online": [pytest.approx(100, abs=20)]}
    assert left(config, "online/own") == {"of another night, hours ago"}


def test_everything_is_kept_on_demand_and_where_mlflow_is_silent(config: Config) -> None:
    write(config.work_path / "panels" / "old", 30)
    here = {"workdir": str(config.work_path)}
    assert prune(load_config(BASE_CONFIG, {**here, "retention.nights": None}), since=NOW) == {}
    nowhere = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(TransientError):
        prune(load_config(BASE_CONFIG, {**here, "retention.nights": 3, "tracking.uri": nowhere}), since=NOW)
    assert left(config, "panels") == {"old"}


def test_what_a_kill_left_half_deleted_goes_with_the_next_sweep(config: Config) -> None:
    half = write(config.work_path / "panels" / ".removing@one", 0)
    assert list(prune(config, since=NOW)) == ["panels", "reports"]
    assert not half.exists()


def test_champion_and_challenger_keep_what_they_need(config: Config) -> None:
    for seed, decision in ((0, True), (1, True), (2, False)):  # deposed, champion, challenger
        manifest = a_manifest(seed=seed, snapshot=str(seed) * 64)
        target = config.work_path / "checkpoints" / f"seed-{seed}"
        save_checkpoint(target, {"q": torch.full((2,), float(seed))}, manifest, {})
        met = fetch_champion.fn(config)
        put(
            config,
            RunRecord(key=f"night/s{seed}", name=f"s{seed}", started=0, artifacts={"checkpoint": target}, version={}),
        )
        crown.fn(config, f"night/s{seed}", Decision(decision, "as it is"), met)
        weights = load_checkpoint(target, None).manifest.weights
        write(config.work_path / "champions" / f"{seed + 1}-{weights[:16]}", 30)
        write(config.work_path / "snapshots" / (str(seed) * 16), 30)
        os.utime(target, (NOW - 30 * DAY,) * 2)
    for copy in (config.work_path / "champions").iterdir():
        os.utime(copy, (NOW - 30 * DAY,) * 2)  # whoever meets a champion uses it
    assert [each.version for each in Registry(config).holders()] == [2, 3]

    removed = prune(config, since=NOW)

    assert {kind: len(sizes) for kind, sizes in removed.items()} == {
        "snapshots": 1,
        "checkpoints": 1,
        "champions": 1,
        "reports": 1,
    }
    assert left(config, "checkpoints") == {"seed-1", "seed-2"}
    assert left(config, "snapshots") == {"1" * 16, "2" * 16}
    assert {name[0] for name in left(config, "champions")} == {"2", "3"}
