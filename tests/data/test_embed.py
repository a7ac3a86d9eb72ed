"""Text into vectors on a real MongoDB: what is embedded, what is not again, what an interruption keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bson import ObjectId
from numpy.typing import NDArray
from pymongo.database import Database

from dynaq.config import EmbeddingConfig, MarketConfig
from dynaq.data.embed import EmbedReport, embed_documents, pending_ranges
from dynaq.data.ingest import load_documents
from dynaq.data.market import generate_market, market_tables
from dynaq.data.vectors import decode_vectors
from dynaq.errors import InputError
from dynaq.protocols import Encoder

FIELDS = {"title": "title_vectors", "skills": "skills_vectors"}
PLACES: Any = ("texts", "vectors", "original_id", FIELDS)
CONFIG = EmbeddingConfig(batch_size=4, documents_per_commit=5)


class HashingEncoder:
    """Each text to its own pseudo-random vector; remembers what it was asked, may fail after some texts."""

    dimension = 8

    def __init__(self, name: str = "hashing", fails_after: float = float("inf")) -> None:
        self.name = name
        self.fails_after = fails_after
        self.asked: list[str] = []
        self.batches: list[int] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if len(self.asked) + len(texts) > self.fails_after:
            raise KeyboardInterrupt
        self.asked += texts
        self.batches.append(len(texts))
        return np.stack([vector_of(self.name, text) for text in texts])


def vector_of(name: str, text: str) -> NDArray[np.float32]:
    digest = hashlib.sha256(f"{name} {text}".encode()).digest()
    return np.frombuffer(digest, dtype=np.uint32).astype(np.float32)


def embed(database: Database, encoder: Encoder, fields: dict[str, str] = FIELDS) -> EmbedReport:
    return embed_documents(database, "texts", "vectors", "original_id", fields, encoder, CONFIG)


def add(database: Database, count: int = 12) -> None:
    database["texts"].insert_many(
        {"_id": f"{n:02d}", "title": f"title {n}", "skills": f"skill {n % 2}", "generated": n == 0}
        for n in range(count)
    )


def stored(database: Database, identifier: Any) -> dict[str, Any]:
    document = database["vectors"].find_one({"original_id": identifier})
    assert document is not None
    return document


def assert_vector(document: dict[str, Any], field: str, encoder: HashingEncoder, text: str) -> None:
    rows, unusable = decode_vectors([document[field]], encoder.dimension)
    assert unusable == []
    np.testing.assert_array_equal(rows[0], vector_of(encoder.name, text))


def test_every_document_gets_its_own_vectors(database: Database) -> None:
    add(database)
    encoder = HashingEncoder()
    # Groups of 5, 5 and 2 documents: 12 titles, and two skills in each group.
    assert embed(database, encoder) == EmbedReport(read=12, written=12, unchanged=0, without_text=0, texts=18)
    assert len(encoder.asked) == 18
    assert max(encoder.batches) == 4
    for n in range(12):
        document = stored(database, f"{n:02d}")
        assert_vector(document, "title_vectors", encoder, f"title {n}")
        assert_vector(document, "skills_vectors", encoder, f"skill {n % 2}")
        assert document["encoder"] == "hashing"
        assert document["generated"] == (n == 0)
    assert database["vectors"].index_information()["original_id_1"]["unique"]


def test_nothing_to_do_the_second_time(database: Database) -> None:
    add(database)
    embed(database, HashingEncoder())
    before = list(database["vectors"].find())
    idle = HashingEncoder(fails_after=0)
    assert embed(database, idle) == EmbedReport(read=12, written=0, unchanged=12, without_text=0, texts=0)
    assert list(database["vectors"].find()) == before


def test_only_the_changed_text_is_embedded_again(database: Database) -> None:
    add(database)
    embed(database, HashingEncoder())
    database["texts"].update_one({"_id": "03"}, {"$set": {"title": "another"}})
    database["texts"].insert_one({"_id": "99", "title": "new"})
    encoder = HashingEncoder()
    report = embed(database, encoder)
    assert sorted(encoder.asked) == ["another", "new"]
    assert (report.written, report.unchanged) == (2, 11)
    assert_vector(stored(database, "03"), "title_vectors", encoder, "another")
    assert_vector(stored(database, "03"), "skills_vectors", encoder, "skill 1")


def test_another_encoder_embeds_all_again(database: Database) -> None:
    add(database)
    embed(database, HashingEncoder())
    database["texts"].update_one({"_id": "01"}, {"$unset": {"skills": ""}})
    other = HashingEncoder("other")
    assert embed(database, other).written == 12
    assert_vector(stored(database, "05"), "title_vectors", other, "title 5")
    assert "skills_vectors" not in stored(database, "01")  # it would pass for one of the other encoder


def test_vectors_vanish_with_their_text(database: Database) -> None:
    add(database)
    embed(database, HashingEncoder())
    database["texts"].update_one({"_id": "01"}, {"$set": {"skills": "  "}})
    database["texts"].update_one({"_id": "02"}, {"$unset": {"skills": "", "title": ""}})
    assert embed(database, HashingEncoder(fails_after=0)).written == 2
    assert {"title_vectors"} == stored(database, "01").keys() & set(FIELDS.values())
    assert not stored(database, "02").keys() & set(FIELDS.values())
    assert embed(database, HashingEncoder(fails_after=0)).without_text == 1


def test_interrupted_run_goes_on(database: Database) -> None:
    add(database)
    with pytest.raises(KeyboardInterrupt):
        embed(database, HashingEncoder(fails_after=9))  # the first group has 7 texts
    assert database["vectors"].count_documents({}) == 5
    encoder = HashingEncoder()
    report = embed(database, encoder)
    assert (report.written, report.unchanged) == (7, 5)
    assert {f"title {n}" for n in range(5)}.isdisjoint(encoder.asked)
    assert database["vectors"].count_documents({}) == 12


def test_ranges_give_what_the_whole_gives_in_any_order(database: Database) -> None:
    numbers = [*range(12), *(f"{n:02d}" for n in range(12)), ObjectId("5f" * 12), "$name"]
    database["texts"].insert_many({"_id": each, "title": f"title {each}"} for each in reversed(numbers))
    whole, parts = HashingEncoder(), HashingEncoder()
    embed(database, whole)
    expected = list(database["vectors"].find(sort=[("_id", 1)]))
    database["vectors"].drop()
    ranges, unchanged = pending_ranges(database, *PLACES, "hashing", CONFIG)
    assert (len(ranges), unchanged) == (6, 0)  # five groups of 5 and one of 1, one of both types
    reports = [embed_documents(database, *PLACES, parts, CONFIG, each) for each in reversed(ranges)]
    assert sum(report.written for report in reports) == 26
    assert list(database["vectors"].find(sort=[("_id", 1)])) == expected
    assert sorted(parts.batches) == sorted(whole.batches)


def test_a_range_has_as_many_changes_as_a_commit(database: Database) -> None:
    add(database, 40)
    embed(database, HashingEncoder())
    changed = [f"{n:02d}" for n in (3, 4, 12, 21, 22, 23, 38)]
    database["texts"].update_many({"_id": {"$in": changed}}, {"$set": {"title": "new"}})
    ranges, unchanged = pending_ranges(database, *PLACES, "hashing", CONFIG)
    assert ranges == [("00", "24"), ("35", "39")]
    assert unchanged == 33
    embed_documents(database, *PLACES, HashingEncoder(), CONFIG, ranges[0])
    assert pending_ranges(database, *PLACES, "hashing", CONFIG) == ([("35", "39")], 39)


def test_fields_may_be_mapped_in_turn(database: Database) -> None:
    add(database, 3)
    embed(database, HashingEncoder(), {"title": "title_vectors"})
    second = HashingEncoder()
    embed(database, second, {"skills": "skills_vectors"})
    assert sorted(set(second.asked)) == ["skill 0", "skill 1"]
    assert embed(database, HashingEncoder(fails_after=0)).unchanged == 3


def test_documents_of_others(database: Database) -> None:
    # Existing collections: ids of other types, lists as text, vectors without a record of their encoder.
    database["texts"].insert_many([{"_id": 7, "title": ["SQL", "dbt"]}, {"_id": "x", "name": "no text field"}])
    foreign = {"_id": "own id", "original_id": 7, "title_vectors": [0.0] * 8, "skills_vectors": [0.0] * 8}
    untouched = {"_id": "other", "original_id": "x", "title_vectors": [1.0] * 8}
    database["vectors"].insert_many([foreign, untouched])
    encoder = HashingEncoder()
    report = embed(database, encoder)
    assert (report.written, report.without_text) == (1, 1)
    document = stored(database, 7)
    assert document["_id"] == "own id"
    assert_vector(document, "title_vectors", encoder, "SQL, dbt")
    assert "skills_vectors" not in document
    assert stored(database, "x") == untouched


def test_what_cannot_be_embedded_into(database: Database) -> None:
    add(database, 3)
    with pytest.raises(InputError, match=r"none of the 3 documents of texts has text in headline"):
        embed(database, HashingEncoder(), {"headline": "title_vectors"})
    database["vectors"].drop()
    database["vectors"].insert_many([{"original_id": "00"}, {"original_id": "00"}])
    with pytest.raises(InputError, match=r"several documents of vectors share one original_id"):
        embed(database, HashingEncoder())


def test_encoder_of_another_size(database: Database) -> None:
    add(database, 3)
    encoder = HashingEncoder()
    encoder.dimension = 16
    with pytest.raises(InputError, match=r"encoder hashing gave an array of shape \(4, 8\)"):
        embed(database, encoder)


def test_generated_market_is_ingested_and_embedded(database: Database, tmp_path: Path) -> None:
    generate_market(MarketConfig(jobs=30, applicants=10, seed=0), tmp_path)
    tables = market_tables(tmp_path)
    report = load_documents(database, "texts", tables.jobs, section="ingest.jobs", generated=True)
    assert (report.written, report.rejected) == (30, {})
    assert embed(database, HashingEncoder()).written == 30
    assert database["texts"].count_documents({"generated": True, "_id": {"$regex": "^gen-"}}) == 30
    assert database["vectors"].count_documents({"generated": True, "original_id": {"$regex": "^gen-"}}) == 30
