"""Labels a second, with parsing, storing and accounting, beside a bare HTTP loop that does none of it.

The floor is the HTTP client: one request and one reply at a time and connection. The server is the stand-in, in a
process of its own: as fast as it can, and with the 50 and 500 ms of quicker and slower language models.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from pymongo.database import Database

from dynaq.config_file import load_config
from dynaq.data.journal import Journal
from dynaq.data.labels import LabelStore
from dynaq.data.ledger import Ledger
from dynaq.llm.abilities import Abilities
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import rule_sim_endpoint
from dynaq.llm.prompt import build_prompt
from dynaq.llm.rule_sim.behaviour import Behaviour
from dynaq.llm.rule_sim.process import rule_sim_server
from dynaq.rewards.budget import Budget
from dynaq.rewards.labeller import Labeller
from dynaq.rewards.question import Question
from tests.paths import BASE_CONFIG

CONCURRENCY, ROUNDS = 32, 5
SKILLS = "Python, SQL, Airflow, Spark, dbt, Kafka, Terraform, " * 10  # a prompt of a usual length
CONFIG = load_config(BASE_CONFIG).llm.model_copy(update={"concurrency": CONCURRENCY})


def questions(first: int, count: int) -> list[Question]:
    applicant = {"hard_skills": SKILLS, "place": "Gent"}
    return [
        Question("a", str(n), build_prompt(applicant, {"title": f"Job {n}", "skills": SKILLS}, 1500))
        for n in range(first, first + count)
    ]


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the wall, and of this process's CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def bare(url: str, asked: list[Question]) -> None:
    """What any loop must do: send, receive, decode."""

    async def ask_all() -> None:
        schema = Abilities("json_schema", logprobs=False).parameters("probabilities")
        same = {"model": "rule-sim-v1", "temperature": 0.0} | schema
        bodies: Iterator[dict[str, Any]] = iter(
            same | {"messages": q.prompt.messages("0" * 16, "probabilities")} for q in asked if q.prompt
        )
        async with httpx2.AsyncClient(timeout=30) as client:

            async def work() -> None:
                for body in bodies:
                    reply = await client.post(f"{url}/chat/completions", json=body)
                    json.loads(reply.json()["choices"][0]["message"]["content"])

            await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    asyncio.run(ask_all())


@pytest.mark.benchmark
@pytest.mark.parametrize(("latency_s", "calls"), [(0.0, 1000), (0.05, 1000), (0.5, 320)])
def test_labels_a_second(database: Database[dict[str, Any]], tmp_path: Path, latency_s: float, calls: int) -> None:
    walls, cpus = [], []
    with (
        rule_sim_server(Behaviour(latency_s=latency_s)) as url,
        LabelClient(rule_sim_endpoint(url), CONFIG) as client,
    ):
        store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], "bench")
        journal = Journal(tmp_path, store, ledger)
        labeller = Labeller(store, client, CONFIG, Budget(CONFIG, ledger), journal)
        for first in range(0, ROUNDS * calls, calls):  # interleaved: a noisy machine is noisy for both
            asked = questions(first, calls)
            ours = timed(lambda asked=asked: labeller(asked))
            floor = timed(lambda asked=asked: bare(url, asked))
            walls.append((ours[0], floor[0]))
            cpus.append((ours[1], floor[1]))
    ours_s, floor_s = np.median(walls, axis=0)
    cpu_ms, floor_cpu_ms = np.median(cpus, axis=0) / calls * 1e3
    share = float(np.median([floor / ours for ours, floor in walls]))
    print(
        f"\nserver latency {latency_s * 1e3:.0f} ms, concurrency {CONCURRENCY}: {calls / ours_s:,.0f} labels a second"
        f" stored, {calls / floor_s:,.0f} bare; share {share:.2f}; client CPU {cpu_ms:.2f} ms a label,"
        f" {floor_cpu_ms:.2f} bare"
    )
    assert database["llm_feedback"].count_documents({}) == ROUNDS * calls
    assert share > 0.6  # 0.9, 0.75 and 0.97 on an idle machine; a noisy one must not fail
