"""The store of experiences on a real server: order, repetition, durability, refusals."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.database import Database

from dynaq.data.experiences import Experience, ExperienceStore
from dynaq.errors import InputError

RUN = "0123456789abcdef"


def experience(position: int, **changes: Any) -> Experience:
    values: dict[str, Any] = {
        "source": "llm:rule-sim-v1",
        "arm": "llm",
        "applicant_id": f"applicant-{position % 7}",
        "job_id": f"job-{position}",
        "reward": 0.1 * position,
        "created": datetime(2025, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
    }
    return Experience(**{"run": RUN, "position": position, **values, **changes})


@pytest.fixture
def store(database: Database[dict[str, Any]]) -> ExperienceStore:
    return ExperienceStore(database["experiences"])


def test_what_was_put_is_read_in_order(store: ExperienceStore) -> None:
    store.put([])
    assert (store.count(RUN), list(store.read(RUN))) == (0, [])
    store.put([experience(position) for position in (2, 0, 11, 1)])
    store.put([experience(0, run="another", source="online")])
    assert list(store.read(RUN)) == [experience(position) for position in (0, 1, 2, 11)]
    assert [each.source for each in store.read("another")] == ["online"]
    assert store.count(RUN) == 4


def test_a_repeated_stage_writes_nothing_twice(store: ExperienceStore) -> None:
    """Whether it had finished or was cut off in the middle, and the first writing stays."""
    store.put(experience(position) for position in range(3000))
    store.put(experience(position, reward=-1.0) for position in range(6000))
    assert store.count(RUN) == 6000
    rewards = [each.reward for each in store.read(RUN)]
    assert rewards[:3000] == [0.1 * position for position in range(3000)]
    assert set(rewards[3000:]) == {-1.0}


def test_run_and_position_are_unique(store: ExperienceStore, database: Database[dict[str, Any]]) -> None:
    """By the server, so that two processes that write at once cannot write twice."""
    store.put([experience(1)])
    indexes = database["experiences"].index_information()
    assert [dict(index["key"]) for index in indexes.values() if index.get("unique")] == [{"run": 1, "position": 1}]


def test_a_document_can_be_read_without_us(store: ExperienceStore, database: Database[dict[str, Any]]) -> None:
    store.put([experience(3)])
    document = database["experiences"].find_one({"source": "llm:rule-sim-v1", "applicant_id": "applicant-3"})
    assert document is not None
    del document["_id"]
    assert document == dataclasses.asdict(experience(3))


def test_experiences_are_written_to_a_majority_of_disks(
    store: ExperienceStore, database: Database[dict[str, Any]]
) -> None:
    store.put([experience(0)])
    database.command("profile", 2)
    store.put([experience(1)])
    database.command("profile", 0)
    insert = database["system.profile"].find_one({"op": "insert", "ns": f"{database.name}.experiences"})
    assert insert is not None
    concern = insert["command"]["writeConcern"]
    assert (concern["w"], concern["j"]) == ("majority", True)


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_missing_is_no_experience(store: ExperienceStore, reward: float) -> None:
    with pytest.raises(InputError, match=f"experience 5 of run {RUN} has the reward {reward}"):
        store.put([experience(4), experience(5, reward=reward)])


def test_a_refusal_of_the_server_is_an_error(store: ExperienceStore, database: Database[dict[str, Any]]) -> None:
    database.create_collection("experiences", validator={"reward": {"$lt": 0.5}})
    store.put([experience(1)])
    with pytest.raises(InputError, match="MongoDB refused"):
        store.put([experience(1), experience(9)])
    assert store.count(RUN) == 1
