"""MongoDB, LLM servers and MLflow as a check sees them: there, refused, silent, or without what is asked for."""

from __future__ import annotations

import http.server
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from mlflow import MlflowClient
from pydantic import SecretStr
from pymongo.database import Database

from dynaq.config import Config, MongoConfig
from dynaq.config_file import load_config
from dynaq.data.embedded import find_mongod
from dynaq.data.vectors import encode_vector
from dynaq.doctor.dask import check_dask
from dynaq.doctor.finding import Finding, examine
from dynaq.doctor.llm import check_endpoint, check_judge, check_llm
from dynaq.doctor.mongodb import check_collection, check_mongodb, sources
from dynaq.doctor.tracking import check_mlflow
from dynaq.errors import ConfigError, TransientError
from dynaq.llm.endpoint import Endpoint, rule_sim_endpoint
from dynaq.llm.rule_sim.process import rule_sim_server
from flows.children import free_port
from tests.paths import BASE_CONFIG

SMALL = {"extract.dimension": 4, "extract.applicant_fields": ["hard_skills"], "extract.job_fields": ["title", "skills"]}
SMALL |= {"extract.cosine_pairs": [["hard_skills", "skills"]], "extract.job_text": {"title": "title"}}
SMALL |= {"extract.applicant_text": {"hard_skills": "hard_skills", "place": "home.city"}}


@pytest.fixture
def config(mongo_config: MongoConfig, mongo_workdir: Path) -> Config:
    overrides = {**SMALL, "workdir": str(mongo_workdir), "mongo.database": mongo_config.database}
    return load_config(BASE_CONFIG, overrides)


@pytest.fixture
def filled(config: Config, database: Database[dict[str, Any]]) -> Database[dict[str, Any]]:
    vector = encode_vector([1.0, 0.0, 0.0, 0.0])
    database["all_jobs"].insert_one({"_id": "j", "title": "welder"})
    database["job_embeddings"].insert_one(
        {"original_job_id": "j", "job_title_embeddings": vector, "tech_skills_vectors": vector}
    )
    database["candidates_text"].insert_one({"_id": "a", "hard_skills": ["welding"], "home": {"city": "Oslo"}})
    database["candidates_embeddings"].insert_one(
        {"original_candidate_id": "a", "hard_skill_embeddings": [1.0, 0.0, 0.0, 0.0]}
    )
    return database


def looked_at(config: Config) -> dict[str, Finding]:
    return {source.name: check_collection(config, source) for source in sources(config)}


def test_mongodb_takes_a_durable_write_and_keeps_nothing(config: Config, database: Database[dict[str, Any]]) -> None:
    finding = check_mongodb(config)
    assert finding.status == "ok"
    assert finding.seen.startswith("embedded, version 6.")
    assert finding.seen.endswith(", replica set")
    assert database["llm_spending"].count_documents({}) == 0


def test_a_server_alone_is_no_replica_set(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    command = [find_mongod(), "--dbpath", str(tmp_path), "--port", str(port), "--bind_ip", "127.0.0.1"]
    with subprocess.Popen([*command, "--nounixsocket"], stdout=subprocess.DEVNULL) as mongod:
        try:
            monkeypatch.setenv("MONGODB_URI", f"mongodb://127.0.0.1:{port}/")
            finding = check_mongodb(config)
        finally:
            mongod.kill()
    assert finding.status == "warn"
    assert "no replica set" in finding.seen


def test_collections_that_hold_what_is_asked_for(config: Config, filled: Database[dict[str, Any]]) -> None:
    assert {finding.status for finding in looked_at(config).values()} == {"ok"}


def test_a_missing_collection_stops_a_night_that_does_not_fill_it(
    config: Config, filled: Database[dict[str, Any]]
) -> None:
    filled["job_embeddings"].drop()
    found = looked_at(config)
    assert [name for name, finding in found.items() if finding.status != "ok"] == ["job_embeddings"]
    assert "mongo.collections.job_embeddings" in found["job_embeddings"].todo
    ingesting = config.model_copy(update={"market": load_config(BASE_CONFIG.with_name("demo.yaml")).market})
    assert looked_at(ingesting)["job_embeddings"].status == "ok"


def test_fields_that_are_named_and_not_there(config: Config, filled: Database[dict[str, Any]]) -> None:
    filled["job_embeddings"].update_one({}, {"$unset": {"original_job_id": ""}, "$set": {"tech_skills_vectors": [1.0]}})
    filled["candidates_text"].update_one({}, {"$unset": {"home": ""}})
    found = looked_at(config)
    assert found["job_embeddings"].status == "FAIL"
    assert "none has original_job_id" in found["job_embeddings"].seen
    assert "1 have no vector of 4 numbers in tech_skills_vectors (wrong size 1)" in found["job_embeddings"].seen
    assert found["candidates_text"].status == "warn"
    assert "home.city (extract.applicant_text.place)" in found["candidates_text"].seen


def test_a_mongodb_that_refuses(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", f"mongodb://somebody:S3ntinel@127.0.0.1:{free_port()}/")
    hasty = config.model_copy(update={"mongo": config.mongo.model_copy(update={"timeout_s": 0.3})})
    line = examine(lambda: check_mongodb(hasty), 10).line("mongodb")
    assert line.startswith("FAIL  mongodb: the MongoDB named by MONGODB_URI did not answer within 0.3 s")
    assert "S3ntinel" not in line


def test_without_an_llm_the_stand_in_is_tried_and_said() -> None:
    finding = check_llm()
    assert finding.status == "warn"
    assert "rule-sim-v1" in finding.seen
    assert check_judge().status == "warn"


def test_an_llm_server_that_has_the_model_and_one_that_has_not() -> None:
    with rule_sim_server() as url:
        assert check_endpoint(rule_sim_endpoint(url)).status == "ok"
        other = check_endpoint(endpoint(url, "gpt-5"))
    assert other.status == "FAIL"
    assert "has only rule-sim-v1" in other.seen
    assert "DYNAQ_LLM_MODEL" in other.todo


def endpoint(url: str, model: str = "m") -> Endpoint:
    return Endpoint(model, SecretStr(url), SecretStr("S3ntinel"))


@contextmanager
def answering(status: int) -> Iterator[str]:
    """An LLM server that answers everything with one status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_an_llm_server_that_refuses_the_key_fails_or_lists_nothing() -> None:
    with answering(401) as url, pytest.raises(ConfigError, match=r"refused the key \(HTTP 401\): check OPENAI_API_KEY"):
        check_endpoint(endpoint(url))
    with answering(503) as url, pytest.raises(TransientError, match="HTTP 503"):
        check_endpoint(endpoint(url))
    with answering(404) as url:
        assert check_endpoint(endpoint(url)).status == "warn"
    with pytest.raises(TransientError, match=r"APIConnectionError.*OPENAI_BASE_URL"):
        check_endpoint(endpoint(f"http://127.0.0.1:{free_port()}/v1"))


def test_a_store_that_is_there_one_that_is_not_and_a_deleted_experiment(tmp_path: Path) -> None:
    config = load_config(BASE_CONFIG, {"workdir": str(tmp_path)})
    assert check_mlflow(config).seen == "SQLite, made by the first night"
    assert not list(tmp_path.iterdir())  # looking makes none
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.create_experiment("dynaq")
    assert check_mlflow(config).status == "ok"
    assert client.get_experiment(experiment).tags == {}
    with sqlite3.connect(tmp_path / "mlflow.db") as store:  # an account that may read and not write
        refuse = "CREATE TRIGGER refuse BEFORE INSERT ON experiment_tags BEGIN SELECT RAISE(ABORT, 'denied'); END"
        store.execute(refuse)
    store.close()
    assert examine(lambda: check_mlflow(config), 30).status == "FAIL"
    client.delete_experiment(experiment)
    assert check_mlflow(config).status == "FAIL"
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    assert examine(lambda: check_mlflow(config), 30).status == "FAIL"


@pytest.mark.filterwarnings("default")  # of Dask's own
def test_a_dask_scheduler_without_workers_with_one_and_gone() -> None:
    here = {"processes": False, "protocol": "tcp://", "host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(n_workers=0, **here) as cluster, Client(cluster) as client:
        address = cluster.scheduler_address
        assert check_dask(address).status == "FAIL"
        cluster.scale(1)
        client.wait_for_workers(1)
        assert check_dask(address).seen == f"{address} answers, workers: 1"
    assert check_dask(f"tcp://127.0.0.1:{free_port()}").seen.endswith("does not answer (OSError)")


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
def test_an_mlflow_server_that_refuses_or_says_nothing(tmp_path: Path, silent: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] if silent else free_port()
        config = load_config(BASE_CONFIG, {"workdir": str(tmp_path), "tracking.uri": f"http://127.0.0.1:{port}"})
        finding = examine(lambda: check_mlflow(config), 2 if silent else 30)
    assert finding.status == "FAIL"
    assert ("within 2 s" if silent else "did not answer") in finding.seen
