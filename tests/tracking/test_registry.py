"""Challengers, champions and the way back, in a SQLite file and behind a server; checkpoints that rotted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.errors import ArtifactError, ConfigError, TransientError
from dynaq.evaluation.champion import Decision
from dynaq.tracking.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from dynaq.tracking.mlflow_tracker import RunRecord, Tracker, tracking_uri
from dynaq.tracking.registry import Registered, Registry
from dynaq.tracking.spool import put
from flows.children import free_port
from tasks.champion import crown, fetch_champion, roll_back
from tests.checkpoints import SNAPSHOT, a_manifest
from tests.paths import BASE_CONFIG

LogRun = Callable[[Config, int], str]
Challenge = Callable[[Config, int, Decision], str]
YES, NO = Decision(True, "far ahead"), Decision(False, "not far enough ahead")


@pytest.fixture
def local(home: Path, request: pytest.FixtureRequest) -> Config:
    """The SQLite store, with an experiment and a working directory of the test's own."""
    name = request.node.name.replace("[", "-").rstrip("]")
    return configured(home / name, name, f"sqlite:///{home / 'mlflow.db'}")


@pytest.fixture(params=["file", "server"])
def config(request: pytest.FixtureRequest, local: Config) -> Config:
    """The store itself or the server over it, and an experiment of the test's own."""
    if request.param == "file":
        return local
    return configured(local.work_path, local.tracking.experiment, request.getfixturevalue("server"))


def configured(workdir: Path, experiment: str, uri: str) -> Config:
    overrides = {"workdir": str(workdir), "tracking.experiment": experiment, "tracking.uri": uri}
    return load_config(BASE_CONFIG, overrides)


def checkpoint(directory: Path, seed: int) -> Path:
    manifest = a_manifest(stage="finetune", agent="hybrid", seed=seed, labels=50, gradient_steps=7)
    tensors = {"q": torch.full((3,), float(seed))}
    return save_checkpoint(directory / f"seed-{seed}", tensors, manifest, {"reward": [0.5]})


@pytest.fixture
def log_run(tmp_path: Path) -> LogRun:
    """Log a child run with the checkpoint of a seed, as a night does; returns the run's id."""

    def log(config: Config, seed: int) -> str:
        return Tracker(config).log(winner(tmp_path, seed))

    return log


@pytest.fixture
def challenge(tmp_path: Path) -> Challenge:
    """Let the agent of a seed meet the present champion, and carry the decision out."""

    def win_or_lose(config: Config, seed: int, decision: Decision) -> str:
        met = fetch_champion.fn(config)
        put(config, winner(tmp_path, seed))
        return crown.fn(config, key(seed), decision, met)

    return win_or_lose


def winner(directory: Path, seed: int) -> RunRecord:
    where, tags = {"checkpoint": checkpoint(directory, seed)}, {"night": "base", "verdict": "none yet"}
    return RunRecord(key=key(seed), name=f"hybrid-s{seed}", started=1, artifacts=where, version=tags)


def key(seed: int) -> str:
    return f"night-{seed}/hybrid-s{seed}"


def run_of(config: Config, seed: int) -> str:
    run_id = Tracker(config).run_id(key(seed))
    assert run_id is not None
    return run_id


def artifacts(config: Config, run_id: str) -> Path:
    """Where the checkpoint of a run lies: in the working directory, or where the server keeps it."""
    (directory,) = config.work_path.parent.rglob(f"{run_id}/artifacts/checkpoint")
    return directory


def versions(config: Config) -> list[ModelVersion]:
    found = MlflowClient(tracking_uri(config)).search_model_versions(f"name = '{config.tracking.experiment}'")
    return sorted(found, key=lambda each: int(each.version))


def aliases(config: Config) -> dict[str, int]:
    found = MlflowClient(tracking_uri(config)).get_registered_model(config.tracking.experiment).aliases
    return {alias: int(version) for alias, version in found.items()}


def champion_of(config: Config) -> Registered:
    champion = Registry(config).champion()
    assert champion is not None
    return champion


def test_the_first_winner_is_crowned_and_comes_back_bit_for_bit(
    config: Config, challenge: Challenge, tmp_path: Path
) -> None:
    assert Registry(config).champion() is None
    assert fetch_champion.fn(config) is None
    sentence = challenge(config, 0, YES)
    run_id = run_of(config, 0)
    assert sentence == f"version 1 of {config.tracking.experiment} is the champion now: far ahead"
    assert aliases(config) == {"challenger": 1, "champion": 1}
    champion = champion_of(config)
    assert (champion.version, champion.run_id) == (1, run_id)
    assert champion.tags["verdict"].startswith("far ahead (20")
    assert "previous_champion" not in champion.tags
    described = {"night": config.name, "agent": "hybrid", "gamma": "0.3", "seed": "0", "labels": "50"}
    assert described.items() <= champion.tags.items()
    (version,) = versions(config)
    assert version.source == f"{MlflowClient(tracking_uri(config)).get_run(run_id).info.artifact_uri}/checkpoint"
    assert (version.run_id, version.status) == (run_id, "READY")

    fetched = fetch_champion.fn(config)
    assert fetched == config.work_path / "champions" / f"1-{champion.weights[:16]}"
    saved = tmp_path / "seed-0"
    assert {file.name: file.read_bytes() for file in fetched.iterdir()} == {
        file.name: file.read_bytes() for file in saved.iterdir()
    }
    assert load_checkpoint(fetched, SNAPSHOT).tensors["q"].tolist() == [0, 0, 0]


def test_a_loser_stays_a_challenger_and_the_reason_is_kept(local: Config, challenge: Challenge) -> None:
    challenge(local, 0, YES)
    sentence = challenge(local, 1, NO)
    assert sentence == f"version 2 of {local.tracking.experiment} stays a challenger: not far enough ahead"
    assert aliases(local) == {"challenger": 2, "champion": 1}
    assert versions(local)[1].tags["verdict"].startswith("not far enough ahead (20")
    assert "previous_champion" not in versions(local)[1].tags


def test_two_promotions_and_two_roll_backs(config: Config, challenge: Challenge) -> None:
    name = config.tracking.experiment
    for seed in range(3):
        challenge(config, seed, YES)
    assert [version.tags.get("previous_champion") for version in versions(config)] == [None, "1", "2"]
    assert champion_of(config).version == 3

    assert roll_back.fn(config) == f"champion is now version 2 of {name}, was version 3 of {name}"
    assert champion_of(config).version == 2
    assert Registry(config).roll_back().version == 1
    assert aliases(config) == {"challenger": 3, "champion": 1}
    again = challenge(config, 2, YES)
    assert again.endswith(f"stays a challenger: its weights are those of version 3 of {name}, which was rolled back")
    assert champion_of(config).version == 1
    assert ["rolled_back" in version.tags for version in versions(config)] == [False, True, True]
    fetched = fetch_champion.fn(config)
    assert fetched is not None
    assert read_manifest(fetched).seed == 0

    with pytest.raises(ArtifactError, match=f"version 1 of {name} is the first champion: there is none before it"):
        roll_back.fn(config)
    assert champion_of(config).version == 1

    challenge(config, 3, YES)
    assert champion_of(config).tags["previous_champion"] == "1"  # the one it followed, not the latest before it
    MlflowClient(tracking_uri(config)).delete_model_version(name, "1")
    with pytest.raises(ArtifactError, match=f"version 1 of {name}, the champion before version 4, was deleted"):
        roll_back.fn(config)
    assert champion_of(config).version == 4


def test_a_task_that_is_tried_again_registers_and_promotes_once(
    config: Config, challenge: Challenge, log_run: LogRun
) -> None:
    challenge(config, 0, YES)
    met = fetch_champion.fn(config)
    broken_off = Registry(config).register(log_run(config, 1), {"night": "demo"})
    first = crown.fn(config, key(1), YES, met)
    verdict = champion_of(config).tags["verdict"]
    assert crown.fn(config, key(1), YES, met) == first
    assert Registry(config).register(run_of(config, 1), {}).version == broken_off.version == 2
    assert len(versions(config)) == 2
    assert champion_of(config).tags["previous_champion"] == "1"
    assert champion_of(config).tags["verdict"] == verdict


def test_a_champion_that_was_not_met_stays(local: Config, challenge: Challenge, log_run: LogRun) -> None:
    challenge(local, 0, YES)
    met = fetch_champion.fn(local)
    challenge(local, 1, YES)
    log_run(local, 2)
    for never in (met, None):
        said = crown.fn(local, key(2), YES, never)
        assert said.startswith(f"version 3 of {local.tracking.experiment} stays a challenger: version 2 of")
        assert said.endswith("has become the champion meanwhile, which it has not met")
    assert aliases(local) == {"challenger": 3, "champion": 2}


def test_a_champion_is_downloaded_once(local: Config, challenge: Challenge) -> None:
    challenge(local, 0, YES)
    first = fetch_champion.fn(local)
    (artifacts(local, run_of(local, 0)) / "weights.safetensors").unlink()
    assert fetch_champion.fn(local) == first


def test_a_damaged_or_missing_file_is_named(config: Config, challenge: Challenge) -> None:
    challenge(config, 0, YES)
    run_id = run_of(config, 0)
    unusable = f"^version 1 of {config.tracking.experiment} cannot be used:"
    for name in ("weights.safetensors", "manifest.json", "curves.json"):
        file = artifacts(config, run_id) / name
        whole = file.read_bytes()
        file.write_bytes(b"rot" + whole[3:])
        with pytest.raises(ArtifactError, match=f"{unusable} {name} of run {run_id} is damaged .* roll back"):
            fetch_champion.fn(config)
        file.unlink()
        with pytest.raises(ArtifactError, match=f"{unusable} run {run_id} .* lacks {name}; restore it"):
            fetch_champion.fn(config)
        file.write_bytes(whole)
    assert list((config.work_path / "champions").iterdir()) == []
    assert fetch_champion.fn(config) is not None


def test_other_weights_than_were_registered_are_refused(local: Config, challenge: Challenge, tmp_path: Path) -> None:
    challenge(local, 0, YES)
    run_id = run_of(local, 0)
    other = checkpoint(tmp_path, 1)
    for name in ("weights.safetensors", "manifest.json"):
        (artifacts(local, run_id) / name).write_bytes((other / name).read_bytes())
    with pytest.raises(ArtifactError, match=f"run {run_id} has other weights in MLflow than were registered"):
        fetch_champion.fn(local)


def test_a_run_without_a_checkpoint_is_no_challenger(config: Config) -> None:
    run_id = Tracker(config).log(RunRecord(key="night/baseline-s0", name="baseline-s0", started=1))
    lacks = "lacks weights.safetensors, manifest.json, curves.json"
    with pytest.raises(ArtifactError, match=f"run {run_id} has no whole checkpoint in MLflow, it {lacks}"):
        crown.fn(config, "night/baseline-s0", YES, None)
    assert versions(config) == []


def test_a_damaged_checkpoint_is_no_challenger(local: Config, log_run: LogRun) -> None:
    run_id = log_run(local, 0)
    manifest = artifacts(local, run_id) / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 0}))
    with pytest.raises(
        ArtifactError, match=f"manifest.json of run {run_id} is damaged in MLflow, or of another format"
    ):
        crown.fn(local, key(0), YES, None)
    assert versions(local) == []


def test_no_champion_to_roll_back(local: Config, challenge: Challenge) -> None:
    name = local.tracking.experiment
    with pytest.raises(ArtifactError, match=f"{name} has no champion in MLflow yet"):
        roll_back.fn(local)
    challenge(local, 0, NO)
    with pytest.raises(ArtifactError, match=f"{name} has no champion in MLflow yet"):
        roll_back.fn(local)


def test_a_champion_from_elsewhere_is_refused(local: Config, log_run: LogRun) -> None:
    client, name = MlflowClient(tracking_uri(local)), local.tracking.experiment
    run_id = log_run(local, 0)
    client.create_registered_model(name)
    client.create_model_version(name, str(artifacts(local, run_id)), run_id)
    client.set_registered_model_alias(name, "champion", "1")
    with pytest.raises(ArtifactError, match=f"version 1 of {name} was not registered by dynaq"):
        fetch_champion.fn(local)


@pytest.mark.parametrize("name", ["team/nights", "nights:2"])
def test_a_name_that_no_model_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"tracking.experiment is '{name}'.* no / and no :"):
        Registry(configured(tmp_path, name, "http://127.0.0.1:1"))


def test_a_server_that_is_not_there_may_be_tried_again(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(TransientError, match="did not answer") as caught:
        Registry(configured(tmp_path, "gone", f"http://127.0.0.1:{port}")).champion()
    assert str(port) not in str(caught.value)


@pytest.mark.parametrize("served_first", [False, True])
def test_nights_by_the_services_and_nights_without_share_a_champion(
    local: Config, server: str, challenge: Challenge, served_first: bool
) -> None:
    served = configured(local.work_path, local.tracking.experiment, server)
    one, other = (served, local) if served_first else (local, served)
    challenge(one, 0, YES)
    challenge(other, 1, YES)
    for config in (local, served):
        with TemporaryDirectory() as directory:
            Registry(config).fetch(champion_of(config), Path(directory))
        assert champion_of(config).version == 2
