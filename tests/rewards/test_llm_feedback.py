from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pymongo.database import Database

from dynaq.config import LabelValues, LLMConfig, MongoConfig
from dynaq.data.ledger import Ledger
from dynaq.errors import ConfigError, LabelError, TransientError
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import Endpoint, rule_sim_endpoint
from dynaq.llm.rule_sim.process import rule_sim_server
from dynaq.rewards.llm_feedback import LLMFeedback
from tests.paths import ROOT
from tests.rewards.given import CONFIG, LABEL, TEXTS, Texts, open_labeller, server

Ask = Callable[..., LLMFeedback]


@pytest.fixture(scope="module")
def rule_sim() -> Iterator[Endpoint]:
    with rule_sim_server() as url:
        yield rule_sim_endpoint(url)


@pytest.fixture
def feedback(database: Database[dict[str, Any]]) -> Iterator[Ask]:
    """Make rewards whose clients close with the test; all share one label store."""
    clients = []

    def make(endpoint: Endpoint, config: LLMConfig = CONFIG, texts: Any = TEXTS) -> LLMFeedback:
        clients.append(LabelClient(endpoint, config))
        return LLMFeedback(texts, open_labeller(database, clients[-1], config), config)

    yield make
    for client in clients:
        client.close()


def pairs(*rows: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows])


EVERY = pairs(*((applicant, job) for applicant in range(3) for job in range(10)))


def test_a_fitting_job_is_rewarded_more(rule_sim: Endpoint, feedback: Ask) -> None:
    reward = feedback(rule_sim)
    rewards = reward(*EVERY)
    assert rewards.dtype == torch.float32
    assert reward.name == "llm:rule-sim-v1"
    assert ((rewards >= -0.1) & (rewards <= 1)).all()
    fits = EVERY[0] % 3 == EVERY[1] % 3
    assert rewards[fits].mean() > rewards[~fits].mean() + 0.3


def test_a_second_run_pays_nothing_and_rewards_the_same(rule_sim: Endpoint, feedback: Ask) -> None:
    first, second = feedback(rule_sim), feedback(rule_sim)
    rewards = first(*EVERY)
    assert first.cost()["calls_made"] == first.labels_used == 30
    assert first.cost()["prompt_tokens"] > 30 * 100
    assert torch.equal(second(*EVERY), rewards)
    spent = first.cost()["prompt_tokens"] + first.cost()["completion_tokens"]
    assert first.cost()["tokens_of_labels"] == spent
    # What the labels once cost stays known, and nothing is paid.
    assert second.cost() == dict.fromkeys(second.cost(), 0) | {"from_store": 30, "tokens_of_labels": spent}
    assert second.labels_used == 30


def test_a_pair_is_asked_once(rule_sim: Endpoint, feedback: Ask) -> None:
    reward = feedback(rule_sim)
    rewards = reward(*pairs((0, 1), (0, 2), (0, 1), (0, 1)))
    assert rewards[0] == rewards[2] == rewards[3] != rewards[1]
    assert torch.equal(reward(*pairs((0, 1))), rewards[:1])
    assert reward.cost()["calls_made"] == reward.labels_used == 2
    assert reward.cost()["from_store"] == 0


def test_pairs_with_the_same_texts_share_a_label(rule_sim: Endpoint, feedback: Ask) -> None:
    twins: Any = Texts([{"skills": "SQL"}], [{"title": "Cook"}, {"title": " Cook\n"}])
    reward = feedback(rule_sim, texts=twins)
    rewards = reward(*pairs((0, 0), (0, 1)))
    assert rewards[0] == rewards[1]
    assert reward.labels_used == 1


def test_other_values_need_no_new_labels(rule_sim: Endpoint, feedback: Ask) -> None:
    feedback(rule_sim)(*EVERY)
    generous = feedback(rule_sim, CONFIG.model_copy(update={"values": LabelValues(apply=2.0, save=2.0, ignore=2.0)}))
    assert torch.allclose(generous(*EVERY), torch.tensor(2.0))
    assert generous.cost()["calls_made"] == 0


def test_another_temperature_or_server_asks_anew(rule_sim: Endpoint, feedback: Ask) -> None:
    feedback(rule_sim)(*EVERY)
    warm = feedback(rule_sim, CONFIG.model_copy(update={"temperature": 0.7}))
    warm(*EVERY)
    assert warm.cost()["calls_made"] == 30
    with server(lambda *_: (200, LABEL)) as one, server(lambda *_: (200, LABEL)) as same_name:
        for endpoint in (one, same_name):
            other = feedback(endpoint)
            other(*EVERY)
            assert other.cost()["calls_made"] == 30


def test_every_label_is_stored_with_its_origin(
    rule_sim: Endpoint, feedback: Ask, database: Database[dict[str, Any]]
) -> None:
    feedback(rule_sim)(*pairs((1, 4)))
    (stored,) = database["llm_feedback"].find()
    assert (stored["applicant_id"], stored["job_id"]) == ("applicant-1", "job-4")
    assert stored["provenance"] == stored["revision"] == "rule-sim-v1"
    assert json.loads(stored["raw_reply"])["apply"] == pytest.approx(stored["apply"])


def test_a_failure_is_missing_and_no_label(feedback: Ask, database: Database[dict[str, Any]]) -> None:
    with server(lambda _, prompt: (200, LABEL if "Job 1\n" in prompt else "I would not")) as endpoint:
        reward = feedback(endpoint)
        rewards = reward(*pairs((0, 0), (0, 1), (0, 2)))
        assert rewards.isnan().tolist() == [True, False, True]
        assert rewards[1] == pytest.approx(0.5 + 0.1 - 0.03)
        assert reward.labels_used == database["llm_feedback"].count_documents({}) == 1
        assert reward.cost()["missing: invalid json"] == 2
        assert reward.cost()["prompt_tokens"] == 21, "failures are paid for too"
        reward(*pairs((0, 0)))
        assert reward.cost()["calls_made"] == 3, "what was paid for in vain is not asked again"
        assert reward.cost()["missing: invalid json"] == 3, "and is missing each time"


def test_a_missing_profile_is_not_asked_about(rule_sim: Endpoint, feedback: Ask) -> None:
    blank: Any = Texts([{"skills": "SQL"}, {"skills": " "}], [{"title": "Cook"}, {}])
    reward = feedback(rule_sim, texts=blank)
    assert reward(*pairs((0, 0), (1, 0), (0, 1))).isnan().tolist() == [False, True, True]
    assert reward.cost()["calls_made"] == 1
    assert reward.cost()["missing: empty profile"] == 2


def test_too_many_missing_labels_stop_and_keep_what_was_paid(feedback: Ask, database: Database[dict[str, Any]]) -> None:
    def mostly(number: int, _: str) -> tuple[int, str]:
        return (200, LABEL) if number % 2 else (500, "") if number % 4 else (200, "no")

    with server(mostly) as endpoint:
        reward = feedback(endpoint)
        assert reward(*pairs(*((0, job) for job in range(10)))).isnan().sum() == 5, "too few to judge"
        with pytest.raises(LabelError, match=r"15 of the last 30 .* 0\.2 .*invalid json \(8\), http 500 \(7\)"):
            reward(*pairs(*((1, job) for job in range(20))))
    assert database["llm_feedback"].count_documents({}) == reward.labels_used == 15


def test_a_server_that_fails_late_is_noticed(feedback: Ask) -> None:
    with server(lambda number, _: (200, LABEL) if number < 200 else (200, "no")) as endpoint:
        reward = feedback(endpoint)
        for applicant in range(4):
            reward(*pairs(*((applicant, job) for job in range(50))))
        with pytest.raises(LabelError, match="30 of the last 100"):
            reward(*pairs(*((4, job) for job in range(30))))


def test_a_server_that_is_down_may_be_tried_again(feedback: Ask) -> None:
    with server(lambda *_: (200, LABEL)) as endpoint:
        pass
    reward = feedback(endpoint)
    with pytest.raises(TransientError, match="none of 30 calls"):
        reward(*EVERY)
    assert reward.labels_used == 0


@pytest.mark.parametrize(
    ("status", "code", "named"),
    [(503, "", r"http 503 \(30\)"), (429, "rate_limit_exceeded", r"http 429 rate_limit_exceeded \(30\)")],
)
def test_a_server_that_fails_every_call_may_be_tried_again(feedback: Ask, status: int, code: str, named: str) -> None:
    with server(lambda *_: (status, code)) as endpoint, pytest.raises(TransientError, match=f"none of 30.*{named}"):
        feedback(endpoint)(*EVERY)


def test_a_request_that_is_refused_every_time_is_not_tried_again(feedback: Ask) -> None:
    with server(lambda *_: (400, "bad_request")) as endpoint, pytest.raises(LabelError, match="http 400 bad_request"):
        feedback(endpoint)(*EVERY)


def test_a_used_up_quota_stops_at_once_and_keeps_what_was_paid(
    feedback: Ask, database: Database[dict[str, Any]]
) -> None:
    with server(lambda number, _: (200, LABEL) if number < 10 else (429, "insufficient_quota")) as endpoint:
        reward = feedback(endpoint)
        with pytest.raises(LabelError, match="quota is used up"):
            reward(*EVERY)
    assert reward.cost()["calls_made"] <= 10 + CONFIG.concurrency
    assert database["llm_feedback"].count_documents({}) == 10


INTERRUPTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
import sys, time
from pathlib import Path
from pydantic import SecretStr
from test_llm_feedback import EVERY
from tests.rewards.given import CONFIG, TEXTS, Budget, Endpoint, Journal, LabelClient, Labeller, LabelStore, Ledger
from dynaq.config import MongoConfig
from dynaq.rewards.llm_feedback import LLMFeedback
from dynaq.data.connection import open_database

class SlowStore(LabelStore):
    puts = 0
    def put(self, records):
        self.puts += 1
        if self.puts == 2:
            print("storing", flush=True)
            time.sleep(1.5)
        return super().put(records)

mongo, workdir, url = sys.argv[1:]
with (
    open_database(MongoConfig.model_validate_json(mongo), Path(workdir)) as database,
    LabelClient(Endpoint("gpt-x", SecretStr(url), SecretStr("none")), CONFIG) as client,
):
    try:
        store, ledger = SlowStore(database["llm_feedback"]), Ledger(database["llm_spending"], "test")
        journal = Journal(Path(workdir) / "journal", store, ledger)
        LLMFeedback(TEXTS, Labeller(store, client, CONFIG, Budget(CONFIG, ledger), journal), CONFIG)(*EVERY)
    except KeyboardInterrupt:
        print(database["llm_feedback"].count_documents({}))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_had_arrived_is_stored_however_a_process_ends(
    database: Database[dict[str, Any]], mongo_config: MongoConfig, mongo_workdir: Path, number: signal.Signals
) -> None:
    """One call goes first; of the next eight five are answered, one being stored and four waiting at the signal."""
    over = threading.Event()

    def slow(call: int, _: str) -> tuple[int, str]:
        if call >= 6:
            over.wait(30)
        return 200, LABEL

    with server(slow) as endpoint:
        arguments = [mongo_config.model_dump_json(), str(mongo_workdir), endpoint.url.get_secret_value()]
        with subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, *arguments],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT)])},
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "storing\n"
            time.sleep(0.5)
            child.send_signal(number)
            stored, _ = child.communicate(timeout=30)
        over.set()
        if number == signal.SIGKILL:
            with LabelClient(endpoint, CONFIG) as client:  # whoever labels next
                open_labeller(database, client, CONFIG, mongo_workdir / "journal")
            assert Ledger(database["llm_spending"], "test").total().labels == 6
    assert number == signal.SIGKILL or stored == "6\n"
    assert database["llm_feedback"].count_documents({}) == 6


def test_a_refused_key_is_no_missing_label(feedback: Ask, database: Database[dict[str, Any]]) -> None:
    with server(lambda number, _: (200, LABEL) if number < 5 else (401, "")) as endpoint:
        reward = feedback(endpoint)
        with pytest.raises(ConfigError) as caught:
            reward(*EVERY)
    assert "sk-secret" not in str(caught.value)
    assert database["llm_feedback"].count_documents({}) == 5


def test_where_another_process_was_first_its_label_counts(feedback: Ask) -> None:
    """Both find nothing stored and ask; the one that is stored later must not use its own answer."""
    both_asked = threading.Barrier(2, timeout=5)
    replies = iter([LABEL, LABEL.replace("0.5", "0.1").replace("0.3", "0.7")])

    def race(_: int, __: str) -> tuple[int, str]:
        both_asked.wait()
        return 200, next(replies)

    with server(race) as endpoint:
        rewards = []
        racers = [feedback(endpoint), feedback(endpoint)]
        threads = [threading.Thread(target=lambda r=racer: rewards.append(r(*pairs((0, 0))))) for racer in racers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not math.isnan(rewards[0].item())
    assert torch.equal(*rewards)
    assert sum(racer.cost()["calls_made"] for racer in racers) == 2
