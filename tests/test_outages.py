"""MongoDB and the LLM server killed, stepping down, cut off and slow in the middle: nothing is lost or doubled."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

import numpy as np
import pytest

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.connection import open_database
from dynaq.data.ledger import Ledger, Spent
from dynaq.data.vectors import encode_vector
from dynaq.errors import TransientError
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import rule_sim_endpoint
from dynaq.llm.rule_sim.behaviour import Behaviour
from dynaq.llm.rule_sim.process import rule_sim_server
from flows.children import free_port
from tasks.extract import take_snapshot
from tests.mongod import Mongod
from tests.paths import BASE_CONFIG
from tests.proxy import Proxy, proxy
from tests.rewards.given import CONFIG, open_labeller, questions

QUESTIONS = 300
T = TypeVar("T")
Fault = Callable[[Mongod, Proxy], None]


def killed(mongod: Mongod, _: Proxy) -> None:
    mongod.restart()


def stepped_down(mongod: Mongod, _: Proxy) -> None:
    mongod.step_down()


def cut(_: Mongod, line: Proxy) -> None:
    for _once in range(3):
        line.cut()
        time.sleep(0.2)


def slow(_: Mongod, line: Proxy) -> None:
    line.delay_s = 0.05


FAULTS = [
    killed,
    pytest.param(stepped_down, marks=pytest.mark.slow),
    pytest.param(cut, marks=pytest.mark.slow),
    pytest.param(slow, marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    with Mongod(tmp_path_factory.mktemp("own") / "db") as server:
        yield server


@pytest.fixture
def line(mongod: Mongod) -> Iterator[Proxy]:
    with proxy(mongod.port) as between:
        yield between


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    extracted = {"extract.dimension": 8, "extract.batch_size": 50, "extract.job_fields": ["title"]}
    extracted |= {"extract.applicant_fields": ["hard_skills"], "extract.cosine_pairs": [["hard_skills", "title"]]}
    named = {"mongo.database": request.node.name.replace("[", "-").rstrip("]")[-38:], "workdir": str(tmp_path)}
    return load_config(BASE_CONFIG, {**extracted, **named, "mongo.timeout_s": 2})


def address(mongod: Mongod, line: Proxy, fault: Fault) -> str:
    """The set itself, as a cluster is reached; or the line, which a driver that knows the set would go around."""
    return f"mongodb://127.0.0.1:{line.port}/?directConnection=true" if fault in (cut, slow) else mongod.uri


@contextmanager
def meanwhile(due: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Do something once it is due, beside the block; that it was due is asserted."""
    acted = threading.Event()

    def wait() -> None:
        while not due():
            time.sleep(0.005)
        act()
        acted.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    yield
    thread.join(timeout=200)
    assert acted.is_set()


def retried(work: Callable[[], T]) -> T:
    """As a task is, but sooner and more often."""
    for _ in range(60):
        try:
            return work()
        except TransientError:
            time.sleep(0.3)
    return work()


def labels_had(config: Config, url: str, patience_s: float = 0.0) -> int:
    patient = CONFIG.model_copy(update={"max_retries": 2, "patience_s": patience_s})
    with (
        open_database(config.mongo, config.work_path) as database,
        LabelClient(rule_sim_endpoint(url), patient) as client,
    ):
        labels = open_labeller(database, client, patient, config.work_path / "journal")(questions(QUESTIONS))
    return sum(label is not None for label in labels)


def test_an_account_is_on_disk_when_it_is_written(mongod: Mongod) -> None:
    ledger = Ledger(mongod.client["accounts"]["llm_spending"], "test")
    for group in range(3):
        total = ledger.add(Spent(calls=1, labels=1), str(group))
        mongod.restart()
        assert ledger.total() == total == Spent(calls=group + 1, labels=group + 1)


@pytest.mark.parametrize("fault", FAULTS)
def test_labels_paid_are_labels_stored(
    mongod: Mongod, line: Proxy, config: Config, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", address(mongod, line, fault))
    stored = mongod.client[config.mongo.database]["llm_feedback"]
    with rule_sim_server(Behaviour(latency_s=0.05)) as url:
        with meanwhile(lambda: stored.estimated_document_count() > 50, lambda: fault(mongod, line)):
            assert retried(lambda: labels_had(config, url)) == QUESTIONS
        with urlopen(f"{url}/stand-in/calls") as reply:
            paid = json.load(reply)["labels"]
    account = Ledger(mongod.client[config.mongo.database]["llm_spending"], "test").total()
    assert paid == stored.count_documents({}) == account.labels == account.calls == QUESTIONS
    assert not list((config.work_path / "journal").rglob("*.bson"))


def fill(mongod: Mongod, config: Config) -> None:
    rows, names = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32), config.mongo.collections
    written: dict[str, list[dict[str, Any]]] = {
        names.applicants: [{"_id": str(n), "hard_skills": ["python"]} for n in range(20)],
        names.applicant_embeddings: [
            {"original_candidate_id": str(n), "hard_skill_embeddings": encode_vector(rows[n])} for n in range(20)
        ],
        names.jobs: [{"_id": str(n), "title": f"job {n}"} for n in range(len(rows))],
        names.job_embeddings: [
            {"original_job_id": str(n), "job_title_embeddings": encode_vector(row)} for n, row in enumerate(rows)
        ],
    }
    for name, documents in written.items():
        mongod.client[config.mongo.database][name].insert_many(documents)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_extraction_that_loses_mongodb_is_the_same_snapshot(
    mongod: Mongod, line: Proxy, config: Config, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", address(mongod, line, fault))
    fill(mongod, config)
    snapshots = config.work_path / "snapshots"

    def half_way() -> bool:
        return any(path.stat().st_size > 200 * 8 * 4 for path in snapshots.glob(".writing*/jobs_vectors.f32"))

    with meanwhile(half_way, lambda: fault(mongod, line)):
        disturbed = retried(lambda: take_snapshot.fn(config))
    line.delay_s = 0.0
    assert [path.name for path in snapshots.iterdir()] == [disturbed.name]
    assert take_snapshot.fn(config) == disturbed


@contextmanager
def gone_half_way(config: Config, mongod: Mongod, away: Callable[[], object]) -> Iterator[str]:
    """Address of a stand-in that is killed when some answers are there, and back when ``away`` returns."""
    port, others = free_port(), list[subprocess.Popen[bytes]]()

    def stand_in() -> subprocess.Popen[bytes]:
        command = ["-m", "dynaq.llm.rule_sim", "--port", str(port), "--behaviour", '{"latency_s": 0.05}']
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def lose_it() -> None:
        first.kill()
        first.wait()
        away()
        others.append(stand_in())

    first = stand_in()
    stored = mongod.client[config.mongo.database]["llm_feedback"]
    with meanwhile(lambda: stored.estimated_document_count() > 50, lose_it):
        yield f"http://127.0.0.1:{port}/v1"
    for process in (first, *others):
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    account = Ledger(mongod.client[config.mongo.database]["llm_spending"], "test").total()
    assert stored.count_documents({}) == account.labels == QUESTIONS


@pytest.mark.parametrize("seconds", [1, pytest.param(150, marks=pytest.mark.slow)])
def test_an_llm_server_that_is_gone_is_waited_for_and_no_label_is_missing(
    seconds: float, mongod: Mongod, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongod.uri)
    with caplog.at_level(logging.WARNING), gone_half_way(config, mongod, lambda: time.sleep(seconds)) as url:
        assert labels_had(config, url, patience_s=200) == QUESTIONS
    assert "the LLM server is gone (no connection): waiting up to 200 s for it" in caplog.text
    (waited,) = re.findall(r"the LLM server is back after (\d+) s", caplog.text)
    assert seconds <= int(waited) <= 2 * seconds + 15


def test_an_llm_server_that_is_gone_for_longer_fails_the_try_and_the_next_goes_on(
    mongod: Mongod, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongod.uri)
    failures, failed = list[str](), threading.Event()

    def tried() -> int:
        try:
            return labels_had(config, url, patience_s=0.5)
        except TransientError as error:
            failures.append(str(error))
            failed.set()
            raise

    with gone_half_way(config, mongod, lambda: failed.wait(100)) as url:
        assert retried(tried) >= (1 - CONFIG.max_missing_share) * QUESTIONS
        assert labels_had(config, url) == QUESTIONS  # what was missing for the server's sake is no answer: asked again
    assert failures
    assert all("no connection" in failure for failure in failures), failures
