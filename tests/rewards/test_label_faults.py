"""Thirty faults in a hundred calls, and a process that is killed: labels are right or missing, and paid once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from pymongo.database import Database

from dynaq.config import MongoConfig
from dynaq.data.ledger import Ledger
from dynaq.llm.rule_sim.applicant import answer
from dynaq.llm.rule_sim.behaviour import FAULTS, Behaviour
from dynaq.llm.rule_sim.process import rule_sim_server
from tests.paths import ROOT
from tests.rewards.given import questions
from tests.rewards.labelling_process import CONCURRENCY

SHARE = 0.3
FAULTY = Behaviour(faults=dict.fromkeys(FAULTS, (SHARE - 0.01) / (len(FAULTS) - 1)) | {"hang": 0.01}, seed=3)
STEPS = [
    pytest.param(200, 0, id="200 labels"),
    pytest.param(400, 3, id="400 labels, killed 3 times"),
    pytest.param(5000, 0, id="5,000 labels", marks=pytest.mark.slow),
    pytest.param(5000, 20, id="5,000 labels, killed 20 times", marks=pytest.mark.slow),
]


def told(url: str, path: str) -> dict[str, Any]:
    with urlopen(f"{url}/stand-in/{path}") as reply:
        known: dict[str, Any] = json.load(reply)
    return known


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("count", "kills"), STEPS)
def test_a_label_is_right_or_missing_and_paid_once(
    database: Database[dict[str, Any]], mongo_config: MongoConfig, mongo_workdir: Path, count: int, kills: int
) -> None:
    chance = random.Random(5)
    with rule_sim_server(FAULTY) as url:
        command = [sys.executable, "-m", "tests.rewards.labelling_process"]
        command += [mongo_config.model_dump_json(), str(mongo_workdir), url, str(count)]
        killed = 0
        while killed < kills:
            before = told(url, "calls")["requests"]
            with subprocess.Popen(command, cwd=ROOT) as child:
                while told(url, "calls")["requests"] == before and child.poll() is None:  # it has begun to ask
                    time.sleep(0.02)
                time.sleep(chance.uniform(0, 0.15 * count / 400))
                killed += child.poll() is None
                child.kill()
        subprocess.run(command, cwd=ROOT, check=True, timeout=900)
        calls, pairs = told(url, "calls"), told(url, "pairs")
    stored = list(database["llm_feedback"].find())
    by_job = {q.job_id: q.prompt for q in questions(count)}
    for each in stored:
        right = answer(by_job[each["job_id"]].messages("0" * 16)[-1]["content"])  # type: ignore[union-attr]
        assert [each[name] for name in ("apply", "save", "ignore")] == pytest.approx(
            [right[name] for name in ("apply", "save", "ignore")]
        )
    assert len({each["job_id"] for each in stored}) == len(stored)
    faults = sum(calls["faults"].values())
    assert abs(faults / calls["requests"] - SHARE) < 0.08
    assert set(calls["faults"]) == set(FAULTS)
    unknown = count - len(stored)
    lost = calls["labels"] - len(stored)  # answered and paid, but the process was dead before it was stored
    print(
        f"\n{count} questions, {kills} kills: {calls['requests']} requests, {faults} faults, {calls['labels']} labels"
        f" paid, {len(stored)} stored, {lost} in flight at a kill, {unknown} missing; a pair was paid {pairs['most']}"
        " times at most"
    )
    assert 0 <= lost <= kills * CONCURRENCY
    assert pairs["most"] == 1 or kills
    assert 0 < unknown < 0.3 * count  # garbage is not asked again within a run
    accounted = Ledger(database["llm_spending"], "test").total()
    assert len(stored) <= accounted.labels <= calls["labels"]
    assert accounted.calls >= accounted.labels
