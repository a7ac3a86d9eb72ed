"""A small night from the command line, on real servers: killed half-way, gone on with, and telling no secret."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from pymongo.database import Database

from dynaq.llm.rule_sim.process import rule_sim_server
from dynaq.tracking.checkpoint import read_manifest
from tests.paths import ROOT

SECRET = "S3ntinel"
SMALL = {
    "market.jobs": 120,
    "market.applicants": 60,
    "compare.seeds": 2,
    "compare.steps": 10,
    "compare.applicants": 15,
    "pretrain.steps": 20,
    "finetune.budgets": "[64]",
    "finetune.applicants_per_step": 32,
    "compare.dial": "{levels: [1], rewards: [llm]}",
    "agent.hand_over.pilot": 16,
    "agent.hidden": "[32]",
    "agent.batch_size": 32,
    "processes": 1,  # each more imports torch once more in every stage; test_fan_out is about two
}


@pytest.fixture
def environment(prefect_api: str, database: Database[dict[str, Any]], tmp_path: Path) -> Iterator[dict[str, str]]:
    """A MongoDB with a password, an LLM with a key, and the shared Prefect server."""
    database.client.admin.command("createUser", "keeper", pwd=SECRET, roles=[{"role": "root", "db": "admin"}])
    host = urlsplit("//{}:{}".format(*database.client.address))
    with rule_sim_server() as llm:
        yield {
            **os.environ,
            "PREFECT_API_URL": prefect_api,
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "MONGODB_URI": f"mongodb://keeper:{SECRET}@{host.netloc}/?directConnection=true&authSource=admin",
            "OPENAI_API_KEY": f"sk-{SECRET}",
            "OPENAI_BASE_URL": llm,
            "DYNAQ_LLM_MODEL": "rule-sim-v1",
        }
    database.client.admin.command("dropUser", "keeper")


def start(environment: dict[str, str], workdir: Path, name: str, output: Path) -> subprocess.Popen[bytes]:
    changes = {**SMALL, "workdir": workdir, "mongo.database": name, "night.longest_h": 48}
    command = [sys.executable, "-m", "flows", "nightly", "--config", "configs/demo.yaml"]
    for key, value in changes.items():
        command += ["--set", f"{key}={value}"]
    with output.open("wb") as file:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


@pytest.mark.timeout(600)
def test_a_night_killed_half_way_goes_on_and_tells_no_secret(
    environment: dict[str, str], database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    workdir, first, second = tmp_path / "work", tmp_path / "first.txt", tmp_path / "second.txt"
    workdir.mkdir()
    yesterday = time.time() - 86_400
    (workdir / "night-began").touch()  # then it was killed for the first time
    os.utime(workdir / "night-began", (yesterday, yesterday))
    killed = start(environment, workdir, database.name, first)
    labels = database["llm_feedback"]
    deadline = time.monotonic() + 240
    while labels.estimated_document_count() < 40:
        assert killed.poll() is None, first.read_text()
        assert time.monotonic() < deadline, first.read_text()
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    finished = {path: path.stat().st_mtime_ns for path in workdir.glob("checkpoints/pretrain-*/manifest.json")}
    assert len(finished) == 4  # 2 seeds, with discount and without
    paid = {each["_id"]: each["created"] for each in labels.find({}, {"created": 1})}

    going_on = start(environment, workdir, database.name, second)
    assert going_on.wait(timeout=400) == 0, second.read_text()
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # reused, not repeated
    assert "pretrain: 4 of 4 checkpoints reused from earlier runs" in second.read_text()
    assert "not everything old was removed" not in second.read_text()
    kept = {each["_id"]: each["created"] for each in labels.find({"_id": {"$in": list(paid)}}, {"created": 1})}
    assert kept == paid
    assert not list(workdir.glob("checkpoints/.writing*"))  # what the killed one was writing
    experiences = database["experiences"]
    assert experiences.count_documents({"source": "llm:rule-sim-v1"}) == 8 * 64  # once each, though killed half-way
    tuned = [path.parent.name for path in workdir.glob("checkpoints/finetune-*/manifest.json")]
    assert sorted(experiences.distinct("run")) == sorted(tuned)
    assert len(tuned) == 8
    assert not list(workdir.rglob("*.progress*"))

    printed = second.read_text()
    rows = [line for line in printed.splitlines() if re.match(r"\| (cosine|llm|hybrid|baseline) ", line)]
    assert len(rows) == 4 + 3  # what the four agents earned, and what three of them gained
    assert not re.search(r"&#?\w+;", printed)  # a terminal shows entities as they are
    (report,) = workdir.glob("reports/*/report.html")
    assert f"Report: {report}" in printed
    assert "rule-sim-v1" in report.read_text()
    assert json.loads((report.parent / "figures.json").read_text())["map"]
    assert {path.name for path in workdir.glob("audits/*/*")} == {f"{datetime.fromtimestamp(yesterday, UTC):%Y-%m-%d}"}
    assert not (workdir / "night-began").exists()
    check_mlflow(workdir, report.parent)
    check_prefect(report.parent)

    third = tmp_path / "third.txt"
    again = start(environment, workdir, database.name, third)
    assert again.wait(timeout=200) == 0, third.read_text()
    for task in ("finetune_arm:", "run_contestant:"):  # its bar, where processes work on it
        assert task in second.read_text()
        assert task not in third.read_text()
    assert "finetune: 8 of 8 checkpoints reused from earlier runs" in third.read_text()
    before, after = (path.read_bytes() for path in workdir.glob("reports/*/figures.json"))
    assert before == after
    check_no_secret(tmp_path)


def check_mlflow(workdir: Path, report: Path) -> None:
    client = MlflowClient(f"sqlite:///{workdir / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("dynaq")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    # The flow whose supervisor is killed ends with it, and closes its run if it is let; else the next night does.
    assert sorted(run.info.status for run in parents) in (["FAILED", "FINISHED"], ["FINISHED", "KILLED"])
    everybody = 4 + 4 + 5 + 3  # agents at both discounts, controls without labels and with
    assert len(children) == everybody * 2
    night = next(run for run in parents if run.info.status == "FINISHED")
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {night.info.run_id}
    assert {"seconds_ingest", "seconds_compare", "cosine_share_of_best"} <= night.data.metrics.keys()
    fetched = Path(client.download_artifacts(night.info.run_id, "report", str(workdir)))
    told = {path.name: path.read_bytes() for path in report.iterdir()}
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == told
    hybrid = next(run for run in children if run.info.run_name == "hybrid-g0.3-n64-s0")
    assert len(client.get_metric_history(hybrid.info.run_id, "online_reward")) == 10
    checkpoint = workdir / "checkpoints" / hybrid.data.tags["checkpoint"]
    assert hybrid.data.tags["weights"] == read_manifest(checkpoint).weights
    uploaded = {run.info.run_id for run in children if client.list_artifacts(run.info.run_id)}
    assert uploaded == {version.run_id for version in client.search_model_versions("name='dynaq'")}


def check_prefect(report: Path) -> None:
    """Prefect shows the report's words; it has no place for pictures."""
    with get_client(sync_client=True) as client:
        named = ArtifactFilter(key=ArtifactFilterKey(any_=["comparison"]))
        (shown,) = client.read_artifacts(artifact_filter=named, sort=ArtifactSort.UPDATED_DESC, limit=1)
    words = (report / "report.md").read_text()
    assert "![" in words
    assert shown.data == "".join(line for line in words.splitlines(keepends=True) if not line.startswith("!["))


def check_no_secret(root: Path) -> None:
    """In no file that the night or a server wrote: logs, MLflow, Prefect's database, reports."""
    written = [path for path in root.parent.rglob("*") if path.is_file()]
    # mongod keeps users, hashed, in its own files; another test makes a file larger than memory.
    files = [path for path in written if "mongodb" not in path.parts and path.stat().st_size < 2**30]
    assert any(path.name == "prefect.db" for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
