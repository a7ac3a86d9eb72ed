from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.database import Database

from dynaq.data.labels import LabelKey, LabelRecord, LabelStore
from dynaq.errors import InputError

KEY = LabelKey("v1", "v1", "openai:gpt-x", "gpt-x-2025", 0.0, 0, "a" * 64, "b" * 64)


def record(key: LabelKey = KEY, **changes: Any) -> LabelRecord:
    values: dict[str, Any] = {
        "applicant_id": "applicant-1",
        "job_id": "job-1",
        "apply": 0.2,
        "save": 0.3,
        "ignore": 0.5,
        "reason": "skills",
        "raw_reply": '{"apply": 0.2, ...}',
        "prompt_tokens": 300,
        "cached_tokens": 200,
        "completion_tokens": 20,
        "latency_s": 0.5,
        "created": datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    return LabelRecord(key, **values | changes)


@pytest.fixture
def store(database: Database[dict[str, Any]]) -> LabelStore:
    return LabelStore(database["llm_feedback"])


def test_what_was_put_is_found(store: LabelStore) -> None:
    assert store.find([KEY]) == {}
    store.put([])
    store.put([record()])
    assert store.find([KEY, KEY._replace(sample=1)]) == {KEY: record()}
    assert store.find([]) == {}


@pytest.mark.parametrize(
    "other",
    [
        {"prompt_version": "v2"},
        {"schema_version": "v2"},
        {"provenance": "rule-sim-v1"},
        {"revision": "gpt-x-2026"},
        {"temperature": 0.7},
        {"sample": 1},
        {"applicant_hash": "c" * 64},
        {"job_hash": "c" * 64},
        {"applicant_hash": KEY.job_hash, "job_hash": KEY.applicant_hash},
    ],
)
def test_every_part_of_the_key_counts(store: LabelStore, other: dict[str, Any]) -> None:
    store.put([record()])
    assert store.find([KEY._replace(**other)]) == {}


def test_the_first_answer_stays_and_the_rest_of_a_batch_is_written(store: LabelStore) -> None:
    store.put([record()])
    second = KEY._replace(job_hash="c" * 64)
    store.put([record(apply=0.9, save=0.1, ignore=0.0), record(second)])
    assert store.find([KEY, second]) == {KEY: record(), second: record(second)}


def test_a_document_can_be_read_without_us(store: LabelStore, database: Database[dict[str, Any]]) -> None:
    store.put([record()])
    document = database["llm_feedback"].find_one({"provenance": "openai:gpt-x", "job_id": "job-1"})
    assert document is not None
    assert document["prompt_version"] == "v1"
    assert document["raw_reply"] == record().raw_reply
    assert document["created"] == record().created
    assert "key" not in document


def test_labels_are_written_to_a_majority_of_disks(store: LabelStore, database: Database[dict[str, Any]]) -> None:
    database.command("profile", 2)
    store.put([record()])
    database.command("profile", 0)
    insert = database["system.profile"].find_one({"op": "insert", "ns": f"{database.name}.llm_feedback"})
    assert insert is not None
    concern = insert["command"]["writeConcern"]
    assert (concern["w"], concern["j"]) == ("majority", True)


def test_a_refusal_that_is_no_duplicate_is_an_error(store: LabelStore, database: Database[dict[str, Any]]) -> None:
    database.create_collection("llm_feedback", validator={"apply": {"$lt": 0.5}})
    with pytest.raises(InputError, match="MongoDB refused"):
        store.put([record(apply=0.9)])
    store.put([record()])
    second = KEY._replace(job_hash="c" * 64)
    with pytest.raises(InputError):
        store.put([record(), record(second, apply=0.9)])


def test_many_keys_are_looked_up(store: LabelStore) -> None:
    keys = [KEY._replace(sample=number) for number in range(12_000)]
    store.put([record(key) for key in keys[::100]])
    assert set(store.find(keys)) == set(keys[::100])


def test_revisions_of_alike_labels_are_known(store: LabelStore) -> None:
    assert store.revisions(KEY) == []
    store.put([record(KEY._replace(revision=name, job_hash=name)) for name in ("b", "a", "b")])
    store.put([record(KEY._replace(revision="of another prompt", prompt_version="v0"))])
    assert store.revisions(KEY) == ["a", "b"]


def test_whoever_comes_second_is_told(store: LabelStore) -> None:
    other = KEY._replace(sample=1)
    assert store.put([record()]) == set()
    assert store.put([record(apply=0.9), record(other)]) == {KEY}
    assert store.find([KEY])[KEY].apply == 0.2
