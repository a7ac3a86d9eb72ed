"""Runs that wait for an MLflow that is gone, slow, or dies half-way, and come there once."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.errors import TransientError
from dynaq.tracking.mlflow_tracker import RunRecord, tracking_uri
from dynaq.tracking.spool import close_killed, deliver, put, waiting
from flows.children import free_port
from tests.paths import BASE_CONFIG
from tests.proxy import proxy
from tests.tracking.test_registry import checkpoint


@pytest.fixture
def store(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


@pytest.fixture
def port(server: str) -> int:
    """Of a real MLflow server over that store."""
    return urlsplit(server).port or 0


def configured(workdir: Path, uri: str) -> Config:
    return load_config(BASE_CONFIG, {"workdir": str(workdir), "tracking.experiment": workdir.name, "tracking.uri": uri})


def spool_night(config: Config, seed: int = 0) -> None:
    """What a night writes: its run, an agent whose checkpoint challenges, figures, and the end."""
    night = RunRecord(key=f"night-{seed}", name="nightly", started=1000 + seed, params={"agent.gamma": "0.3"})
    put(config, night)
    put(
        config,
        RunRecord(
            key=f"night-{seed}/hybrid-s{seed}",
            name=f"hybrid-s{seed}",
            started=night.started,
            status="FINISHED",
            metrics={"regret": float("nan")},
            curves={"online_reward": [0.5, None, 0.25]},
            artifacts={"checkpoint": checkpoint(config.work_path / "checkpoints", seed)},
            version={"night": "base"},
        ),
    )
    put(config, night.model_copy(update={"metrics": {"gain": 0.1}}))
    put(config, night.model_copy(update={"status": "FINISHED", "metrics": {"seconds_compare": 2.0}}))


def runs(config: Config) -> list[Run]:
    client = MlflowClient(tracking_uri(config))
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]) if experiment else []


def check_one_night(config: Config) -> None:
    night, child = sorted(runs(config), key=lambda run: "mlflow.parentRunId" in run.data.tags)
    assert child.data.tags["mlflow.parentRunId"] == night.info.run_id
    assert (night.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert night.data.params == {"agent.gamma": "0.3"}
    assert night.data.metrics == {"gain": 0.1, "seconds_compare": 2.0}
    client = MlflowClient(tracking_uri(config))
    curve = client.get_metric_history(child.info.run_id, "online_reward")
    assert [(point.step, point.value) for point in curve] == [(0, 0.5), (2, 0.25)]
    assert len(client.get_metric_history(night.info.run_id, "gain")) == 1
    assert len(client.list_artifacts(child.info.run_id, "checkpoint")) == 4  # with the digests
    (version,) = client.search_model_versions(f"name = '{config.tracking.experiment}'")
    assert version.run_id == child.info.run_id
    assert client.get_registered_model(config.tracking.experiment).aliases == {}


def test_a_night_waits_for_a_server_that_is_gone(store: str, tmp_path: Path) -> None:
    gone = configured(tmp_path, f"http://127.0.0.1:{free_port()}")
    spool_night(gone)
    with pytest.raises(TransientError, match="did not answer"):
        deliver(gone)
    assert len(waiting(gone)) == 4
    back = configured(tmp_path, store)
    deliver(back)
    assert waiting(back) == []
    check_one_night(back)


def test_a_night_that_is_tried_again_adds_to_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(tmp_path, f"http://127.0.0.1:{free_port()}")
    for name in ("first", "again"):
        monkeypatch.setattr("dynaq.tracking.spool._number", itertools.count())  # as in another process
        put(config, RunRecord(key="night-0", name=name, started=1))
    assert [RunRecord.model_validate_json(path.read_text()).name for path in waiting(config)] == ["first", "again"]


def test_a_server_that_hangs_is_one_that_is_gone(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with proxy(port) as slow:
        slow.delay_s = 3.0
        config = configured(tmp_path, f"http://127.0.0.1:{slow.port}")
        spool_night(config)
        with pytest.raises(TransientError, match="did not answer"):
            deliver(config)
    assert len(waiting(config)) == 4


# With a step of 1 each answer to a record, in the pieces that come, is once the first that is not heard.
@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_a_delivery_cut_anywhere_is_repeated_and_doubles_nothing(port: int, tmp_path: Path, step: int) -> None:
    with proxy(port) as line:
        config = configured(tmp_path, f"http://127.0.0.1:{line.port}")
        spool_night(config)
        cuts = dict.fromkeys(waiting(config), 0)
        while left := waiting(config):
            assert max(cuts.values()) < 100
            line.answers = cuts[left[0]] * step  # what the server does for the next request nobody hears of
            try:
                deliver(config)
            except TransientError:
                cuts[waiting(config)[0]] += 1
        line.answers = None
        assert sum(cuts.values()) > 30 / step
        assert min(cuts.values()) >= 3 // step
        check_one_night(config)


def test_a_late_registration_makes_no_champion(store: str, tmp_path: Path) -> None:
    config = configured(tmp_path, store)
    spool_night(config, 0)
    deliver(config)
    client, name = MlflowClient(store), config.tracking.experiment
    for alias in ("challenger", "champion"):
        client.set_registered_model_alias(name, alias, "1")
    spool_night(config, 1)
    deliver(config)
    assert client.get_registered_model(name).aliases == {"challenger": 1, "champion": 1}
    assert [version.tags["seed"] for version in client.search_model_versions(f"name = '{name}'")] == ["1", "0"]


def test_a_record_that_is_refused_holds_up_its_own_night_only(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(tmp_path, store)
    put(config, RunRecord(key="night-0", name="refused", started=1, params={"no such?": "1"}))
    put(config, RunRecord(key="night-0/a", name="a", started=1))
    put(config, RunRecord(key="night-1", name="damaged", started=1))
    waiting(config)[-1].write_text("{")
    put(config, RunRecord(key="night-2", name="taken", started=1))
    with caplog.at_level(logging.WARNING):
        deliver(config)
    assert [path.name.partition(".")[0] for path in waiting(config)] == ["night-0", "night-0", "night-1"]
    refused = "MLFLOW_TRACKING_URI names refused (INVALID_PARAMETER_VALUE): where it refuses all, check its address"
    assert f"cannot be delivered: the MLflow that tracking.uri or {refused}; mend that" in caplog.text
    assert "it is damaged, or of another version of dynaq" in caplog.text
    assert "taken" in [run.info.run_name for run in runs(config)]


def test_nights_that_were_killed_are_closed_by_the_next_one_of_their_working_directory(
    store: str, tmp_path: Path
) -> None:
    here, elsewhere = configured(tmp_path, store), configured(tmp_path / "another" / tmp_path.name, store)
    for config, key in ((here, "killed"), (here, "unheard"), (elsewhere, "elsewhere"), (here, "ended")):
        put(config, RunRecord(key=key, name=key, started=1))
        deliver(config)
    put(here, RunRecord(key="ended", name="ended", started=1, status="FINISHED"))
    put(here, RunRecord(key="tonight", name="tonight", started=2))
    put(here, RunRecord(key="unheard", name="unheard", started=1, params={"no such?": "1"}))
    put(here, RunRecord(key="unheard", name="unheard", started=1, status="FINISHED"))
    deliver(here)
    close_killed(here, "tonight")
    deliver(here)
    assert {run.info.run_name: run.info.status for run in runs(here)} == {
        "killed": "KILLED",
        "unheard": "RUNNING",  # it ended, and says so when what waits before is mended
        "elsewhere": "RUNNING",
        "ended": "FINISHED",
        "tonight": "RUNNING",
    }
    assert len(waiting(here)) == 2


def test_what_is_no_longer_there_is_said_and_the_rest_is_logged(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(tmp_path, store)
    put(config, RunRecord(key="n", name="n", started=1, metrics={"gain": 1.0}, artifacts={"report": tmp_path / "no"}))
    with caplog.at_level(logging.WARNING):
        deliver(config)
    assert f"{tmp_path / 'no'} is gone: MLflow gets run n without it" in caplog.text
    assert runs(config)[0].data.metrics == {"gain": 1.0}
