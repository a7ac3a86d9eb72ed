"""Bad input to a flow: one clear sentence, on the console and on Prefect's pages, and nothing taken for whole."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynaq.data.manifest import vectors_file
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError, ConfigError, InputError, TransientError
from flows.children import free_port
from flows.compare import compare
from flows.extract import extract
from flows.finetune import finetune
from flows.ingest import ingest
from flows.nightly import nightly
from flows.pretrain import pretrain
from tests.paths import ROOT

CONFIG = str(ROOT / "configs" / "base.yaml")


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Any]:
    """The ingest section for two small files."""
    pd.DataFrame({"id": ["a"], "text": ["welder"]}).to_parquet(tmp_path / "jobs.parquet")
    (tmp_path / "applicants.csv").write_text("id,text\n1,welding\n")
    columns = {"id": "id", "attributes": {}}
    return {
        "jobs": {**columns, "path": str(tmp_path / "jobs.parquet"), "columns": {"title": ["text"]}},
        "applicants": {**columns, "path": str(tmp_path / "applicants.csv"), "columns": {"hard_skills": ["text"]}},
    }


@pytest.mark.usefixtures("in_prefect")
def test_a_mapping_that_names_no_column(tmp_path: Path, tables: dict[str, Any], mongo_workdir: Path) -> None:
    tables["jobs"]["columns"] = {"title": ["headline"]}
    with pytest.raises(InputError, match=r"ingest\.jobs\.columns\.title names the column 'headline'"):
        ingest(CONFIG, {"ingest": tables, "workdir": str(mongo_workdir), "mongo.database": "bad_mapping"})


@pytest.mark.usefixtures("in_prefect")
def test_rows_that_are_not_used_are_named(
    tmp_path: Path, tables: dict[str, Any], mongo_workdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "applicants.csv").write_text("id,text\n1,welding\n1,baking\n,sewing\n")
    overrides = {"ingest": tables, "workdir": str(mongo_workdir), "mongo.database": "not_used"}
    with caplog.at_level(logging.WARNING):
        ingest(CONFIG, overrides)
    assert "applicants: 2 of 3 rows are not used, such as row 2 ('1': duplicate id), row 3 (" in caplog.text
    assert "jobs: " not in caplog.text


@pytest.mark.usefixtures("in_prefect")
def test_a_corrupt_parquet(tmp_path: Path, tables: dict[str, Any], mongo_workdir: Path) -> None:
    (tmp_path / "jobs.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(InputError, match=r"jobs\.parquet"):
        ingest(CONFIG, {"ingest": tables, "workdir": str(mongo_workdir), "mongo.database": "corrupt"})


@pytest.mark.usefixtures("in_prefect")
def test_an_empty_collection(mongo_workdir: Path) -> None:
    with pytest.raises(InputError, match="ingest flow"):
        extract(CONFIG, {"workdir": str(mongo_workdir), "mongo.database": "nothing_here"})


@pytest.mark.usefixtures("in_prefect")
def test_nothing_to_ingest() -> None:
    with pytest.raises(ConfigError, match="nothing to ingest"):
        ingest(CONFIG)


@pytest.mark.usefixtures("in_prefect")
@pytest.mark.parametrize("flow", [pretrain, compare])
def test_no_snapshot_yet(flow: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="extract flow"):
        flow(CONFIG, {"workdir": str(tmp_path)})


@pytest.mark.usefixtures("in_prefect")
@pytest.mark.parametrize("flow", [pretrain, finetune, compare])
def test_a_snapshot_with_another_content(flow: Any, small_snapshot: Snapshot, tmp_path: Path) -> None:
    copied = shutil.copytree(small_snapshot.path, tmp_path / "snapshots" / "copied")
    vectors = copied / vectors_file("jobs")
    content = bytearray(vectors.read_bytes())
    content[100] ^= 1  # one bit: the size is right, and so is every number's form
    vectors.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{vectors} has another content than .*: run the extract flow"):
        flow(CONFIG, {"workdir": str(tmp_path)}, copied)


@pytest.mark.usefixtures("in_prefect")
def test_a_server_that_does_not_answer_is_tried_again_and_never_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MONGODB_URI", "mongodb://somebody:S3ntinel@127.0.0.1:9/")
    monkeypatch.setattr("tasks.extract.take_snapshot.retry_delay_seconds", [0.1] * 5)
    with caplog.at_level(logging.INFO), pytest.raises(TransientError, match="MONGODB_URI did not answer") as caught:
        extract(CONFIG, {"workdir": str(tmp_path), "mongo.timeout_s": 0.2})
    assert "S3ntinel" not in caplog.text + str(caught.value)
    assert "Traceback" not in caplog.text
    assert caplog.text.count("Retry ") == 5
    assert not (tmp_path / "mongodb").exists()


@pytest.mark.usefixtures("in_prefect")
def test_an_llm_that_does_not_answer_is_told_of_before_anything_is_trained(
    mongo_workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    overrides: dict[str, Any] = {"workdir": str(mongo_workdir), "mongo.database": "no_llm"}
    monkeypatch.setenv("DYNAQ_LLM_MODEL", "some-model")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{free_port()}/v1")
    for replay_only in (False, True):
        with caplog.at_level(logging.WARNING), pytest.raises(InputError, match="ingest flow"):
            nightly(CONFIG, {**overrides, "llm.replay_only": replay_only})
    told = (
        "see that it runs, and check OPENAI_BASE_URL; after pre-training it is asked for all labels that are not stored"
    )
    assert caplog.text.count(told) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "agent.gama=1"], "agent.gama"),
        (["--set", "agent.gamma=1.5"], "agent.gamma is 1.5"),
        (["--set", "agent.gamma=high"], "agent.gamma is 'high'"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--set", "nonsense"], "KEY=VALUE"),
        (["--set", "workdir=/dev/null/here"], "workdir /dev/null/here cannot be made: Not a directory"),
    ],
)
def test_the_command_line_says_it_in_one_line(arguments: list[str], expected: str) -> None:
    command = [sys.executable, "-m", "flows", "nightly", "--config", CONFIG, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
