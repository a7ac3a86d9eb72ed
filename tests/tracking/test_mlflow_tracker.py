"""A night in MLflow, in a SQLite file and behind a server; and a server that is not there."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.errors import ConfigError, TransientError
from dynaq.tracking.mlflow_tracker import RunRecord, Tracker, flat_params, tracking_uri
from flows.servers import mlflow_child
from tests.paths import BASE_CONFIG, ROOT

STARTED = 1_800_000_000_000  # milliseconds
LONG = [float(step) for step in range(1500)]  # more than MLflow takes in one request


def configured(workdir: Path, experiment: str = "nights", uri: str | None = None) -> Config:
    overrides = {"workdir": str(workdir), "tracking.experiment": experiment, "tracking.uri": uri}
    return load_config(BASE_CONFIG, overrides)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the module: creating its tables takes MLflow seconds."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def local(workdir: Path) -> Config:
    return configured(workdir)


def log_night(config: Config, directory: Path) -> tuple[Run, list[Run]]:
    """A night with two children, read back as parent and children by name."""
    directory.mkdir()
    (directory / "weights.safetensors").write_bytes(b"weights")
    tracker = Tracker(config)
    params = flat_params(config)
    night = RunRecord(key="tonight", name="nightly", started=STARTED, params=params, tags={"code": "1.0"})
    run_id = tracker.log(night)
    online: list[list[float | None]] = [[0.5, None, 0.25], [*LONG]]
    for seed, curve in enumerate(online):
        tracker.log(
            RunRecord(
                key=f"tonight/cosine-s{seed}",
                name=f"cosine-s{seed}",
                started=STARTED,
                status="FINISHED",
                params={"agent": "cosine", "seed": str(seed)},
                tags={"rewards": "cosine"},
                metrics={"average_reward": 0.125},
                curves={"online_reward": curve, "training_loss": [None, None]},
                artifacts={"checkpoint": directory},
            )
        )
    more = {"status": "FINISHED", "metrics": {"cosine_gain": 0.1}, "artifacts": {"report": directory}}
    assert tracker.log(night.model_copy(update=more)) == run_id == tracker.run_id("tonight")
    client = MlflowClient(tracking_uri(config))
    parent = client.get_run(run_id)
    children = client.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
    return parent, sorted(children, key=lambda run: str(run.info.run_name))


@pytest.fixture(scope="module")
def night(local: Config, workdir: Path) -> tuple[Run, list[Run]]:
    return log_night(local, workdir / "checkpoint")


def history(config: Config, run: Run, metric: str) -> list[tuple[int, float]]:
    points = MlflowClient(tracking_uri(config)).get_metric_history(run.info.run_id, metric)
    return [(point.step, point.value) for point in points]


def test_the_parent_says_what_ran(night: tuple[Run, list[Run]], local: Config) -> None:
    parent, _ = night
    assert (parent.info.run_name, parent.info.status) == ("nightly", "FINISHED")
    assert parent.data.tags["code"] == "1.0"
    assert parent.data.params == flat_params(local)
    assert parent.info.start_time == STARTED
    assert parent.data.metrics == {"cosine_gain": 0.1}


def test_children_hold_their_figures_and_curves(night: tuple[Run, list[Run]], local: Config) -> None:
    _, children = night
    assert [child.info.run_name for child in children] == ["cosine-s0", "cosine-s1"]
    assert {child.info.status for child in children} == {"FINISHED"}
    for seed, child in enumerate(children):
        assert child.data.params == {"agent": "cosine", "seed": str(seed)}
        assert child.data.tags["rewards"] == "cosine"
        assert child.data.metrics["average_reward"] == 0.125
        assert "training_loss" not in child.data.metrics  # undefined at every step
    assert history(local, children[0], "online_reward") == [(0, 0.5), (2, 0.25)]
    assert history(local, children[1], "online_reward") == list(enumerate(LONG))


def test_artifacts_lie_in_the_working_directory(night: tuple[Run, list[Run]], workdir: Path) -> None:
    parent, children = night
    for run, place in ((parent, "report"), (children[0], "checkpoint"), (children[1], "checkpoint")):
        stored = workdir / "mlartifacts" / run.info.run_id / "artifacts" / place / "weights.safetensors"
        assert stored.read_bytes() == b"weights"


def test_a_night_that_broke_is_marked_failed_in_the_same_experiment(
    night: tuple[Run, list[Run]], local: Config
) -> None:
    run_id = Tracker(local).log(RunRecord(key="broken", name="broken", started=STARTED, status="FAILED"))
    run = MlflowClient(tracking_uri(local)).get_run(run_id)
    assert (run.info.status, run.info.experiment_id) == ("FAILED", night[0].info.experiment_id)


def test_a_run_logged_again_is_the_same_run_and_curve(local: Config) -> None:
    tracker, curve = Tracker(local), [0.5, None, 0.25]
    tracker.log(RunRecord(key="retried", name="retried", started=STARTED))
    child = RunRecord(key="retried/a", name="a", started=STARTED, params={"seed": "0"}, curves={"online_reward": curve})
    first, second = tracker.log(child), tracker.log(child)
    assert first == second
    run = MlflowClient(tracking_uri(local)).get_run(first)
    assert history(local, run, "online_reward") == [(0, 0.5), (2, 0.25)]


def test_a_deleted_experiment_is_not_written_to(night: tuple[Run, list[Run]], workdir: Path) -> None:
    gone = configured(workdir, experiment="gone")
    Tracker(gone)
    client = MlflowClient(tracking_uri(gone))
    experiment = client.get_experiment_by_name("gone")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(ConfigError, match="the MLflow experiment gone was deleted: restore it, or name another one"):
        Tracker(gone)


@pytest.fixture(scope="module")
def server(night: tuple[Run, list[Run]], local: Config, workdir: Path) -> Iterator[str]:
    """A real MLflow server over the same store."""
    with mlflow_child(free_port(), tracking_uri(local), workdir / "served", workdir / "mlflow.log") as child:
        yield child.address


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_is_written_to_as_the_file_is(server: str, local: Config, tmp_path: Path, workdir: Path) -> None:
    remote = configured(tmp_path, "served", server)
    parent, children = log_night(remote, tmp_path / "checkpoint")
    assert history(remote, children[1], "online_reward") == list(enumerate(LONG))
    assert len(list((workdir / "served").rglob("weights.safetensors"))) == 3
    assert not (tmp_path / "mlflow.db").exists()
    beneath = MlflowClient(tracking_uri(local)).get_run(parent.info.run_id)
    assert (beneath.info.status, beneath.data.metrics) == ("FINISHED", {"cosine_gain": 0.1})


def test_the_address_comes_from_the_configuration_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(configured(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert tracking_uri(configured(tmp_path)) == "http://127.0.0.1:1"
    assert tracking_uri(configured(tmp_path, uri="http://127.0.0.1:2")) == "http://127.0.0.1:2"


@pytest.fixture
def secret_address(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an address where secrets belong."""
    return lambda uri: monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


def test_a_server_that_refuses_may_be_tried_again_and_is_not_named(
    secret_address: Callable[[str], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    secret_address(f"http://anna:sesame@127.0.0.1:{port}")
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(TransientError, match="MLFLOW_TRACKING_URI names did not answer") as caught,
    ):
        Tracker(configured(tmp_path))
    assert caught.value.__suppress_context__
    assert str(port) not in str(caught.value)
    for secret in ("anna", "sesame"):
        assert secret not in str(caught.value) + caplog.text


@pytest.mark.parametrize("scheme", ["sqllite", "postgresql+nodriver"])
def test_a_store_that_cannot_be_used_is_not_named(
    secret_address: Callable[[str], None], tmp_path: Path, scheme: str
) -> None:
    secret_address(f"{scheme}://anna:sesame@127.0.0.1/nights")
    with pytest.raises(ConfigError, match="MLflow") as caught:
        Tracker(configured(tmp_path))
    assert caught.value.__suppress_context__
    assert not re.search(r"anna|sesame|127\.0\.0\.1", str(caught.value))


@pytest.mark.parametrize("preset", ["base", "demo", "real"])
def test_knobs_are_flat_without_the_address(preset: str) -> None:
    address = "http://mlflow.internal:5000"
    params = flat_params(load_config(ROOT / "configs" / f"{preset}.yaml", {"tracking.uri": address}))
    assert address not in params.values()
    assert params["agent.epsilon.start"] == "0.5"
    assert params["extract.job_fields"].startswith("['title'")
    assert ("ingest.jobs.path" in params) == (preset == "real")


def test_mlflow_takes_whatever_users_call_their_labels(tmp_path: Path) -> None:
    labels = {"title": "title", "pay (EUR), yearly": "pay", "what's offered": "offer", "C++ & tools": "skills"}
    config = load_config(BASE_CONFIG, {"workdir": str(tmp_path), "extract.job_text": labels})
    run_id = Tracker(config).log(RunRecord(key="tonight", name="nightly", started=STARTED, params=flat_params(config)))
    logged = MlflowClient(tracking_uri(config)).get_run(run_id).data.params
    assert logged["extract.job_text"] == str(labels)
