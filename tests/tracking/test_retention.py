"""Retention: what the last nights have used and what a champion needs stays, the rest goes, and nothing by halves."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import ViewType

from dynaq.artifacts import finished, publish
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.errors import TransientError
from dynaq.evaluation.champion import Decision
from dynaq.tracking.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from dynaq.tracking.mlflow_tracker import RunRecord, Tracker, tracking_uri
from dynaq.tracking.registry import Registry
from dynaq.tracking.retention import prune
from dynaq.tracking.spool import deliver, put, waiting
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


@pytest.fixture
def config(tmp_path: Path, home: Path) -> Config:
    """Of a working directory with four reports: of 9, 6 and 3 days ago and of now; three nights are kept."""
    for days_ago in (9, 6, 3, 0):
        write(tmp_path / "reports" / str(days_ago), days_ago)
    return configured(tmp_path, f"sqlite:///{home / 'mlflow.db'}")


def configured(workdir: Path, uri: str, experiment: str = "") -> Config:
    """Of a working directory whose runs have an experiment to themselves, unless one is named."""
    here = {"workdir": str(workdir), "retention.nights": 3, "tracking.uri": uri}
    return load_config(BASE_CONFIG, here | {"tracking.experiment": experiment or workdir.name})


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
    for paid in ("audits", "mongodb"):
        write(config.work_path / paid / "ancient", 1000)

    removed = prune(config, since=NOW)

    for kind in KINDS:
        assert left(config, kind) - {used.name} == {"used-8.9", "used-5", "used-0"}
    assert left(config, "reports") == {"6", "3", "0"}
    assert used.exists()
    assert all((config.work_path / paid / "ancient").exists() for paid in ("audits", "mongodb"))
    size = sum(path.stat().st_size for path in used.iterdir())
    assert {kind: sorted(sizes) for kind, sizes in removed.items()} == {
        kind.split("/")[0]: [size] * 2 for kind in KINDS
    } | {"reports": [size], "checkpoints": [7, size, size]}
    assert prune(config, since=NOW) == {}  # four reports are needed for more


def test_a_night_under_way_keeps_what_it_uses(config: Config) -> None:
    write(config.work_path / "online" / "own" / "of a night that began long ago", 9.5)
    assert prune(config, since=NOW - 9.6 * DAY) == {}
    since_midnight = NOW / DAY % 1
    for days_ago in (6, 3, 0):
        write(config.work_path / "reports" / f"of the evening, {days_ago} days ago", days_ago + since_midnight + 1e-5)
    write(config.work_path / "online" / "own" / "of another night, hours ago", since_midnight + 2e-5)
    one = config.model_copy(update={"retention": config.retention.model_copy(update={"nights": 1})})
    assert prune(one, since=NOW).keys() == {"online", "reports"}
    assert left(config, "online/own") == {"of another night, hours ago"}


def test_an_afternoon_of_comparisons_is_one_night(config: Config) -> None:
    for number in range(9):
        write(config.work_path / "reports" / f"of today, {number}", 0)
    write(config.work_path / "panels" / "used-5", 5)
    assert prune(config, since=NOW) == {"reports": [pytest.approx(100, abs=20)]}
    assert left(config, "panels") == {"used-5"}


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


def test_who_holds_a_title_keeps_what_it_needs(config: Config) -> None:
    # The first champion, one that lost, the champion before the present one, that one, and its challenger.
    for seed, decision in enumerate((True, False, True, True, False)):
        manifest = a_manifest(seed=seed, snapshot=str(seed) * 64)
        target = config.work_path / "checkpoints" / f"seed-{seed}"
        save_checkpoint(target, {"q": torch.full((2,), float(seed))}, manifest, {})
        met = fetch_champion.fn(config)
        put(
            config,
            RunRecord(key=f"night/s{seed}", name=f"s{seed}", started=1, artifacts={"checkpoint": target}, version={}),
        )
        crown.fn(config, f"night/s{seed}", Decision(decision, "as it is"), met)
        weights = load_checkpoint(target, None).manifest.weights
        write(config.work_path / "champions" / f"{seed + 1}-{weights[:16]}", 30)
        write(config.work_path / "snapshots" / (str(seed) * 16), 30)
        os.utime(target, (NOW - 30 * DAY,) * 2)
    for copy in (config.work_path / "champions").iterdir():
        os.utime(copy, (NOW - 30 * DAY,) * 2)  # whoever meets a champion uses it
    registry = Registry(config)
    assert [each.version for each in registry.champions()] == [4, 3, 1]
    assert [each.version for each in registry.aliased()] == [4, 5]

    removed = prune(config, since=NOW)

    assert {kind: len(sizes) for kind, sizes in removed.items()} == {
        "MLflow": 1,
        "snapshots": 2,
        "checkpoints": 2,
        "champions": 2,
        "reports": 1,
    }
    assert left(config, "checkpoints") == {"seed-2", "seed-3", "seed-4"}
    assert left(config, "snapshots") == {"2" * 16, "3" * 16, "4" * 16}
    assert {name[0] for name in left(config, "champions")} == {"3", "4", "5"}
    for seed in (2, 0):  # as far back as it goes, from MLflow alone
        again = registry.roll_back()
        (config.work_path / "fetched" / str(seed)).mkdir(parents=True)
        assert read_manifest(registry.fetch(again, config.work_path / "fetched" / str(seed))).seed == seed


def log_night(config: Config, key: str, days_ago: float) -> dict[str, str]:
    """A night with a report and one child; returns their ids by key."""
    started, report = round((NOW - days_ago * DAY) * 1000), write(config.work_path / "to log" / key, days_ago)
    put(config, RunRecord(key=key, name="nightly", started=started, artifacts={"report": report}))
    put(config, RunRecord(key=f"{key}/a", name="a", started=started, curves={"online_reward": [0.5] * 40}))
    deliver(config)
    found = {each: Tracker(config).run_id(each) for each in (key, f"{key}/a")}
    return {each: run_id for each, run_id in found.items() if run_id}


@pytest.mark.parametrize("where", ["database", "our server", "server", "database, files elsewhere"])
def test_old_nights_leave_mlflow_with_files_and_rows(
    where: str, config: Config, home: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, store, ours = config.tracking.experiment, tracking_uri(config), where in ("database", "our server")
    place = config.work_path / "mlartifacts" if ours else home / "files"
    MlflowClient(store).create_experiment(name, artifact_location=place.as_uri())
    if "server" in where:
        config = configured(config.work_path, request.getfixturevalue("server"))
        if ours:  # as `make services` says it
            monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", store)
    elsewhere = configured(config.work_path / "another", tracking_uri(config), name)
    old, waits = log_night(config, "old", 10), log_night(config, "waits", 10)
    kept = waits | log_night(config, "recent", 8) | log_night(elsewhere, "of-another-workdir", 10)
    put(config, RunRecord(key="waits", name="nightly", started=0, status="FINISHED"))

    removed = prune(config, since=NOW)

    assert len(removed["MLflow"]) == 2
    assert (sum(removed["MLflow"]) > 0) == ours
    assert (place / old["old"]).exists() != ours
    assert (place / kept["recent"] / "artifacts" / "report" / "numbers").exists()
    client = MlflowClient(store)
    (experiment,) = [each.experiment_id for each in client.search_experiments() if each.name == name]
    assert {run.info.run_id for run in client.search_runs([experiment])} == set(kept.values())
    deleted = {run.info.run_id for run in client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)}
    assert deleted == (set() if ours else set(old.values()))
    rows = "select count(*) from metrics where run_uuid = ?"
    with sqlite3.connect(store.removeprefix("sqlite:///")) as database:
        assert database.execute(rows, [old["old/a"]]).fetchone() == (0 if ours else 40,)
        assert database.execute(rows, [kept["recent/a"]]).fetchone() == (40,)
    assert "MLflow" not in prune(config, since=NOW)


def test_what_waits_for_mlflow_stays_until_it_is_there(config: Config) -> None:
    """A registry that answers, over a place for files that does not take any."""
    target = config.work_path / "checkpoints" / "challenger"
    save_checkpoint(target, {"q": torch.zeros(2)}, a_manifest(), {})
    report = write(config.work_path / "reports" / "of that night", 10)
    for path in (target, report):
        os.utime(path, (NOW - 10 * DAY,) * 2)
    (config.work_path / "mlartifacts").write_text("no directory")
    put(config, RunRecord(key="n", name="n", started=0, artifacts={"checkpoint": target}, version={}))
    put(config, RunRecord(key="n", name="n", started=0, artifacts={"report": report}))
    for _ in range(2):
        deliver(config)
        assert len(waiting(config)) == 2
        assert prune(config, since=NOW).keys() <= {"reports"}
    assert left(config, "reports") == {"6", "3", "0", "of that night"}

    (config.work_path / "mlartifacts").unlink()
    deliver(config)
    assert waiting(config) == []
    assert {"checkpoints", "reports"} <= prune(config, since=NOW).keys()
    assert left(config, "checkpoints") == set()
