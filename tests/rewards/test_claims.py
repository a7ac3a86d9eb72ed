"""Processes that want the same answers pay for each once, whoever of them is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from dynaq.config import MongoConfig
from dynaq.data.claims import Claims
from dynaq.data.labels import LabelKey
from dynaq.llm.endpoint import Endpoint
from tests.paths import ROOT
from tests.rewards.given import LABEL, server

ASKS = """
import sys
from pathlib import Path
from pydantic import SecretStr
from tests.rewards.given import CONFIG, Endpoint, LabelClient, open_labeller, questions
from dynaq.config import MongoConfig
from dynaq.data.connection import open_database

mongo, workdir, url = sys.argv[1:]
config = CONFIG.model_copy(update={"concurrency": 2})
with (
    open_database(MongoConfig.model_validate_json(mongo), Path(workdir)) as database,
    LabelClient(Endpoint("gpt-x", SecretStr(url), SecretStr("none")), config) as client,
):
    labeller = open_labeller(database, client, config, Path(workdir) / "journal")
    print("ready", flush=True)
    sys.stdin.readline()
    for start in (0, 20, 10):
        assert all(labeller(questions(40)[start : start + 20]))
    print(labeller.distinct, labeller.cost()["calls_made"])
"""

Child = subprocess.Popen[str]


def asking(mongo: MongoConfig, workdir: Path, endpoint: Endpoint) -> Child:
    """A process that is about to ask for 40 labels."""
    child = subprocess.Popen(
        [sys.executable, "-c", ASKS, mongo.model_dump_json(), str(workdir), endpoint.url.get_secret_value()],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def go(child: Child) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


@pytest.mark.parametrize("killed", [False, True])
def test_each_answer_is_paid_once(
    database: Database[dict[str, Any]], mongo_config: MongoConfig, mongo_workdir: Path, killed: bool
) -> None:
    asked: Counter[str] = Counter()
    some = threading.Event()

    def answer(number: int, prompt: str) -> tuple[int, str]:
        asked[prompt[prompt.index("title: ") :].split("\n")[0]] += 1
        if number == 10:
            some.set()
        time.sleep(0.02)
        return 200, LABEL

    with server(answer) as endpoint, ExitStack() as stack:
        children = [stack.enter_context(asking(mongo_config, mongo_workdir, endpoint)) for _ in range(3)]
        go(children[0])
        if killed:
            some.wait(10)
            children.pop(0).kill()
        for child in children:
            go(child)
        printed = [child.communicate(timeout=60)[0].split() for child in children]
    (account,) = database["llm_spending"].find()
    assert [distinct for distinct, _ in printed] == ["40"] * len(children)
    assert account["calls"] == account["labels"] == database["llm_feedback"].count_documents({}) == 40
    assert len(asked) == 40
    if killed:  # what was on its way to it has no account, and is asked again
        assert 40 <= asked.total() <= 42
    else:
        assert sum(int(paid) for _, paid in printed) == asked.total() == 40


def key(number: int) -> LabelKey:
    return LabelKey("v", "v", "openai:m", "", 0.0, 0, "a" * 64, f"{number:064x}")


HOLDS = """
import sys
from pathlib import Path
from tests.rewards.test_claims import Claims, key

with Claims(Path(sys.argv[1])).hold([key(1), key(2)]) as mine:
    print(len(mine), flush=True)
    sys.stdin.readline()
"""


def test_who_is_killed_claims_nothing_any_more(tmp_path: Path) -> None:
    path = tmp_path / "claims"
    command = [sys.executable, "-c", HOLDS, str(path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "2\n"
        with Claims(path).hold([key(1), key(3)]) as mine:
            assert mine == [key(3)]
        threading.Timer(0.3, child.kill).start()
        started = time.monotonic()
        Claims(path).wait([key(1)])
        assert time.monotonic() - started > 0.2
        with Claims(path).hold([key(1), key(3)]) as mine:
            assert mine == [key(1), key(3)]


def test_without_locks_all_is_asked_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    claims = Claims(tmp_path / "file" / "claims")
    for _ in range(2):
        with claims.hold([key(1)]) as mine:
            assert mine == [key(1)]
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'file' / 'claims'} cannot be locked (File exists): processes may pay twice for an answer"
    ]
