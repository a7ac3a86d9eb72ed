"""A night whose MLflow does not answer: it finishes, says so, crowns nobody, and is delivered by the next one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from prefect import flow

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.errors import ConfigError
from dynaq.evaluation.champion import Decision
from dynaq.evaluation.title import Title
from dynaq.tracking.checkpoint import save_checkpoint
from dynaq.tracking.mlflow_tracker import RunRecord
from dynaq.tracking.spool import deliver, put, waiting
from flows.children import free_port
from flows.compare import _carry_out
from flows.night import mlflow_night
from tests.checkpoints import a_manifest
from tests.paths import BASE_CONFIG


def configured(workdir: Path, uri: str | None) -> Config:
    return load_config(BASE_CONFIG, {"workdir": str(workdir), "tracking.uri": uri})


@flow
def night(config: Config) -> str:
    path = save_checkpoint(config.work_path / "checkpoints" / "winner", {"q": torch.zeros(1)}, a_manifest(), {})
    with mlflow_night(config, "a night") as tonight, tonight.timed("compare"):
        run = f"{tonight.run.key}/winner"
        put(config, RunRecord(key=run, name="winner", started=1, artifacts={"checkpoint": path}))
        return _carry_out(config, tonight.run, Title(Decision(True, "far ahead"), run, None))


@pytest.mark.usefixtures("in_prefect")
def test_a_night_without_mlflow_finishes_and_comes_there_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.compare.crown.retry_delay_seconds", [0.0] * 5)
    gone = configured(tmp_path, f"http://127.0.0.1:{free_port()}")
    said = night(gone)
    assert said.startswith("No champion is changed tonight, for the MLflow that")
    assert "did not answer" in said
    assert "What would have been decided: far ahead." in said
    assert len(waiting(gone)) == 4  # the night, the winner, that it challenges, the end

    back = configured(tmp_path, None)
    assert night(back) == "version 2 of dynaq is the champion now: far ahead"
    assert waiting(back) == []
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert client.get_model_version("dynaq", "1").tags["verdict"] == "none: its night got to no decision"
    assert client.get_registered_model("dynaq").aliases == {"challenger": 2, "champion": 2}
    experiment = client.get_experiment_by_name("dynaq")
    assert experiment is not None
    nights = "attributes.run_name = 'a night'"
    first, second = client.search_runs([experiment.experiment_id], nights, order_by=["attributes.start_time"])
    assert (first.info.status, second.info.status) == ("FINISHED", "FINISHED")
    assert "seconds_compare" in first.data.metrics
    assert first.data.params["agent.gamma"] == "0.3"

    put(back, RunRecord(key="killed", name="killed", started=1))
    deliver(back)
    night(back)
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs if run.info.run_name == "killed"] == ["KILLED"]

    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(ConfigError, match="the MLflow experiment dynaq was deleted"):
        night(back)  # at once, not after the work
