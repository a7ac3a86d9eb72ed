"""Documents that cannot be used: each has its reason, and too many of them stop the extraction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bson import ObjectId
from pymongo.database import Database

from dynaq.config import MongoConfig
from dynaq.data.snapshot import open_snapshot
from dynaq.data.vectors import encode_vector
from dynaq.errors import InputError

Mongo = Database[dict[str, Any]]
Fill = Callable[..., None]
Extraction = Callable[..., Path]


@pytest.mark.parametrize(
    ("field", "value", "reason", "shown"),
    [
        ("tech_skills_vectors", None, "missing", "job-3"),
        ("tech_skills_vectors", "python", "bad type", "job-3"),
        ("tech_skills_vectors", [1.0] * 7, "wrong size 7", "job-3"),
        ("tech_skills_vectors", [float("nan")] + [1.0] * 7, "not finite", "job-3"),
        ("job_title_embeddings", encode_vector(np.full(8, np.inf, dtype=np.float32)), "not finite", "job-3"),
        ("job_title_embeddings", [0.0] * 8, "zero norm", "job-3"),
        ("original_job_id", None, "missing id", None),
        ("original_job_id", 3.5, "bad type", None),
        ("original_job_id", "job-4", "duplicate id", "job-4"),
    ],
)
def test_an_unusable_document_is_counted_and_listed(
    database: Mongo,
    mongo_names: MongoConfig,
    fill: Fill,
    extraction: Extraction,
    field: str,
    value: Any,
    reason: str,
    shown: str | None,
) -> None:
    fill()
    collection = database[mongo_names.collections.job_embeddings]
    broken = collection.find_one({"original_job_id": "job-3"})
    assert broken is not None
    collection.update_one({"_id": broken["_id"]}, {"$set": {field: value}} if value else {"$unset": {field: 1}})
    if field == "original_job_id":  # else the posting, to which nothing refers now, is listed too
        database[mongo_names.collections.jobs].delete_one({"_id": "job-3"})
    snapshot = open_snapshot(extraction(), verify=True)
    assert snapshot.manifest.quarantined["job_embeddings"] == {reason: 1}
    [line] = (snapshot.path / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "collection": "job_embeddings",
        "id": shown or str(broken["_id"]),  # without a usable id the document's own
        "field": field,
        "reason": reason,
    }
    kept = sorted({f"job-{number}" for number in range(12)} - {"job-3"})
    assert snapshot.job_ids == kept
    assert [text["title"] for text in snapshot.job_texts] == [f"title of {each}" for each in kept]
    assert snapshot.jobs.shape == (11, 16)


def test_too_many_unusable_documents(
    database: Mongo, mongo_names: MongoConfig, fill: Fill, extraction: Extraction, tmp_path: Path
) -> None:
    fill()
    collection = database[mongo_names.collections.applicant_embeddings]
    for number in range(3):
        collection.update_one(
            {"original_candidate_id": f"applicant-{number}"}, {"$unset": {"hard_skill_embeddings": 1}}
        )
    kept = tmp_path / "snapshots" / "quarantine-candidates_embeddings.jsonl"
    with pytest.raises(InputError) as refusal:
        extraction()
    for part in ("3 of 20", "15.0%", "allows 10.0%", "hard_skill_embeddings missing (3)", str(kept)):
        assert part in str(refusal.value)
    assert len(kept.read_text().splitlines()) == 3
    assert list(kept.parent.iterdir()) == [kept]
    assert open_snapshot(extraction(max_quarantined_share=0.15)).manifest.applicants == 17


def test_texts_without_vectors_count_too(
    database: Mongo, mongo_names: MongoConfig, fill: Fill, extraction: Extraction
) -> None:
    fill()
    names = mongo_names.collections
    lost = [ObjectId("5f" * 12), "applicant-0"]  # one was never embedded, of the other the vectors are gone
    database[names.applicants].insert_one({"_id": lost[0], "hard_skills": "sql"})
    database[names.applicant_embeddings].delete_one({"original_candidate_id": lost[1]})
    snapshot = open_snapshot(extraction())  # 2 of 19 embedding documents and 2 texts: 9.5 %
    assert snapshot.manifest.quarantined == {"candidates_embeddings": {"no vectors": 2}, "job_embeddings": {}}
    listed = [json.loads(line) for line in (snapshot.path / "quarantine.jsonl").read_text().splitlines()]
    assert sorted(entry["id"] for entry in listed) == sorted(map(str, lost))
    assert snapshot.manifest.applicants == 19

    database[names.applicants].insert_one({"_id": {"tenant": 1}, "hard_skills": "sql"})
    with pytest.raises(InputError) as refusal:
        extraction()
    for part in ("3 of 22", "13.6%", "allows 10.0%", "original_candidate_id no vectors (3)"):
        assert part in str(refusal.value)
    assert open_snapshot(extraction(applicant_text={})).manifest.quarantined["candidates_embeddings"] == {}


def test_another_dimension_is_named(fill: Fill, extraction: Extraction) -> None:
    fill()
    with pytest.raises(InputError, match=r"every hard_skill_embeddings .* has 8 numbers, but extract\.dimension is 6"):
        extraction(dimension=6, max_quarantined_share=1.0)


def test_no_usable_document_is_never_a_snapshot(
    database: Mongo, mongo_names: MongoConfig, fill: Fill, extraction: Extraction
) -> None:
    fill()
    database[mongo_names.collections.job_embeddings].update_many({}, {"$set": {"tech_skills_vectors": "?"}})
    with pytest.raises(InputError, match=r"12 of 12 .* tech_skills_vectors bad type \(12\)"):
        extraction(max_quarantined_share=1.0)
