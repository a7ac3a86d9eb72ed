"""Labels of one revision, replayed or sampled, and never mixed."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
import torch
from pymongo.database import Database

from dynaq.config import LLMConfig, SamplesConfig
from dynaq.errors import LabelError, TransientError
from dynaq.llm.client import LabelClient
from dynaq.rewards.llm_feedback import LLMFeedback
from tests.rewards.given import CONFIG, LABEL, TEXTS, open_labeller, questions, server


def asked(database: Database[dict[str, Any]], config: LLMConfig, model: Any, count: int = 12) -> dict[str, int]:
    with server(lambda *_: (200, LABEL), model=model) as endpoint, LabelClient(endpoint, config) as client:
        labeller = open_labeller(database, client, config)
        labeller.provenance = "openai:m"  # all servers of this test are one that changes behind its address
        assert all(labeller(questions(count)))
        return labeller.cost()


def test_a_model_that_changed_under_its_name_is_said_and_never_mixed(database: Database[dict[str, Any]]) -> None:
    asked(database, CONFIG, "m-may")
    assert asked(database, CONFIG, "m-june")["calls_made"] == 0  # all stored, so nobody notices yet
    with pytest.raises(LabelError, match=r"answers as m-june, while labels are of m-may: set llm\.revision"):
        asked(database, CONFIG, "m-june", 24)
    assert database["llm_feedback"].count_documents({"revision": "m-june"}) > 0  # paid for, so kept
    with pytest.raises(LabelError, match=r"are of m-june and m-may: set llm\.revision"):
        asked(database, CONFIG, "m-june", 24)
    june = asked(database, CONFIG.model_copy(update={"revision": "m-june"}), "m-june", 24)
    assert june["calls_made"] + june["from_store"] == 24
    assert june["from_store"] < 24
    mixed = asked(database, CONFIG.model_copy(update={"revision": "any"}), "m-july", 24)
    assert mixed["calls_made"] == 0


def test_two_revisions_behind_one_address_stop_the_run(database: Database[dict[str, Any]]) -> None:
    turns = itertools.cycle(["m-a", "m-b"])
    with pytest.raises(LabelError, match=r"set llm\.revision to one"):
        asked(database, CONFIG, lambda: next(turns))


def test_replay_says_what_is_missing_and_calls_nobody(database: Database[dict[str, Any]]) -> None:
    replay = CONFIG.model_copy(update={"replay_only": True})
    with pytest.raises(LabelError, match=r"12 labels of openai:m are not stored, the first that of applicant a and"):
        asked(database, replay, "m-may")
    assert database["llm_feedback"].count_documents({}) == 0
    asked(database, CONFIG, "m-may")
    assert asked(database, replay, "m-may")["from_store"] == 12


def test_a_contested_pair_is_asked_again_and_the_mean_counts(database: Database[dict[str, Any]]) -> None:
    sure = '{"apply": 0.9, "save": 0.05, "ignore": 0.05, "reason": "skills"}'
    torn = ['{"apply": 0.4, "save": 0.2, "ignore": 0.4, "reason": "skills"}', LABEL, LABEL]
    again = iter(torn)

    def answer(_: int, prompt: str) -> tuple[int, str]:
        return 200, sure if "Job 1\n" in prompt else next(again)

    config = CONFIG.model_copy(
        update={"samples": SamplesConfig(most=3, contested_below=0.6), "temperature": 1.0, "concurrency": 1}
    )
    with server(answer) as endpoint, LabelClient(endpoint, config) as client:
        reward = LLMFeedback(TEXTS, open_labeller(database, client, config), config)
        rewards = reward(torch.tensor([0, 0]), torch.tensor([1, 2]))
        assert reward.cost()["calls_made"] == 1 + 3
        again_free = reward(torch.tensor([0, 0]), torch.tensor([1, 2]))
    assert torch.equal(rewards, again_free)
    first, later = 0.4 + 0.1 - 0.04, 0.5 + 0.1 - 0.03
    assert rewards.tolist() == pytest.approx([0.9 + 0.025 - 0.005, (first + 2 * later) / 3])
    assert reward.labels_used == 4
    assert sorted(database["llm_feedback"].distinct("sample")) == [0, 1, 2]


class Tomorrow(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + timedelta(days=1)


def test_refusals_never_end_a_run_and_are_paid_once_a_day(
    database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses_some(_: int, prompt: str) -> tuple[int, str]:
        return 200, "no" if any(f"Job {n}\n" in prompt for n in range(25)) else LABEL

    with server(refuses_some) as endpoint:
        for calls in (200, 0, 25):  # by one agent, by another, and the next day
            if calls == 25:
                monkeypatch.setattr("dynaq.data.failures.datetime", Tomorrow)
            with LabelClient(endpoint, CONFIG) as client:
                labeller = open_labeller(database, client)
                labels = labeller(questions(200))
            assert sum(label is None for label in labels) == labeller.cost()["missing: invalid json"] == 25
            assert labeller.cost()["calls_made"] == calls
        replay = CONFIG.model_copy(update={"replay_only": True})
        with LabelClient(endpoint, replay) as client:
            labeller = open_labeller(database, client, replay)
            assert sum(label is None for label in labeller(questions(200))) == 25
            assert (labeller.cost()["calls_made"], labeller.cost()["missing: not stored"]) == (0, 25)


def test_what_costs_nothing_is_asked_again(database: Database[dict[str, Any]]) -> None:
    turned_down = itertools.count()

    def filters(_: int, prompt: str) -> tuple[int, str]:
        return (400, str(next(turned_down))) if "Job 1\n" in prompt else (200, LABEL)

    with server(filters) as endpoint, LabelClient(endpoint, CONFIG) as client:
        for _ in range(2):
            assert sum(label is None for label in open_labeller(database, client)(questions(12))) == 1
    assert next(turned_down) == 2


def test_a_server_that_was_mended_is_asked_again_the_same_day(database: Database[dict[str, Any]]) -> None:
    """More failures than llm.max_missing_share allows are no fault of the texts."""
    broken = True
    with server(lambda *_: (200, "no" if broken else LABEL)) as endpoint, LabelClient(endpoint, CONFIG) as client:
        with pytest.raises(LabelError, match="30 of the last 30"):
            open_labeller(database, client)(questions(30))
        broken = False
        assert all(open_labeller(database, client)(questions(30)))


def test_one_call_that_times_out_is_a_missing_label_and_no_dead_server(database: Database[dict[str, Any]]) -> None:
    with server(lambda *_: (503, "")) as endpoint, LabelClient(endpoint, CONFIG) as client:
        assert open_labeller(database, client)(questions(1)) == [None]


def test_a_server_that_fails_for_many_may_be_tried_again(database: Database[dict[str, Any]]) -> None:
    def busy(_: int, prompt: str) -> tuple[int, str]:
        return (503, "") if any(f"Job {n}\n" in prompt for n in range(25)) else (200, LABEL)

    with (
        server(busy) as endpoint,
        LabelClient(endpoint, CONFIG) as client,
        pytest.raises(TransientError, match=r"25 of the last 60 questions .*: http 503 \(25\); labels already paid"),
    ):
        open_labeller(database, client)(questions(60))
