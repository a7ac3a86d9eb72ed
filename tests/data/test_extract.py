"""Extraction from a real MongoDB: the same content gives the same snapshot, whole or not at all."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bson import ObjectId
from pymongo.database import Database

from dynaq.config import ExtractConfig, MongoConfig
from dynaq.data.snapshot import Snapshot, latest_snapshot, open_snapshot
from dynaq.data.vectors import encode_vector
from dynaq.errors import ArtifactError, InputError

Mongo = Database[dict[str, Any]]
Fill = Callable[..., None]
Extraction = Callable[..., Path]


def as_doubles(row: Any) -> list[float]:
    return [float(number) for number in row]


def test_rows_ids_and_counts(snapshot: Snapshot) -> None:
    rows = np.random.default_rng(0).normal(size=(20 + 2 * 12, 8)).astype(np.float32)
    order = [int(each.removeprefix("job-")) for each in snapshot.job_ids]
    assert snapshot.job_ids == sorted(f"job-{number}" for number in range(12))
    np.testing.assert_array_equal(snapshot.jobs, np.hstack([rows[20:32], rows[32:]])[order])
    assert snapshot.applicants.shape == (20, 8)
    manifest = snapshot.manifest
    assert snapshot.path.name == manifest.digest[:16]
    assert manifest.cosine.model_dump() == {
        "kind": "pairs",
        "pairs": [["hard_skills", "skills"], ["hard_skills", "title"]],
    }
    assert manifest.encoders == {"applicants": {"toy": 20}, "jobs": {"toy": 12}}
    assert manifest.generated == {"applicants": 0, "jobs": 12}
    assert manifest.quarantined == {"candidates_embeddings": {}, "job_embeddings": {}}
    assert manifest.without_text == {"applicants": 0, "jobs": 0}
    assert manifest.labelled == {
        "applicants": {"hard_skills": 20, "place": 20},
        "jobs": {"title": 12, "remote": 12, "skills": 0},
    }


def test_storage_and_order_of_insertion_leave_no_trace(fill: Fill, extraction: Extraction) -> None:
    paths = []
    for encode in (encode_vector, as_doubles):
        for backwards in (False, True):
            fill(encode, backwards)
            paths.append(extraction(batch_size=3 if backwards else 1000))
    assert len(set(paths)) == 1


def contents(snapshot: Path) -> dict[str, Any]:
    """The bytes of every file; of the manifest all but the time."""
    files: dict[str, Any] = {path.name: path.read_bytes() for path in snapshot.iterdir()}
    return files | {"manifest.json": {**json.loads(files["manifest.json"]), "created": ""}}


@pytest.mark.parametrize("unique", [True, False])
def test_ranges_read_at_once_give_the_snapshot_that_one_reader_gives(
    database: Mongo, mongo_names: MongoConfig, fill: Fill, extraction: Extraction, tmp_path: Path, unique: bool
) -> None:
    fill(encode_vector if unique else as_doubles)  # the first document decides which way all are read
    rows = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    ids: list[Any] = [7, "7", ObjectId("5f" * 12), "5f" * 12, None, "", 2.5, True, 2**40, "é", {"a": 1}]
    ids += [number if number % 3 else f"{number}" for number in range(100, 389)]  # of two types, and many of each
    documents = [{"original_job_id": each, "encoder": "toy"} for each in ids]
    if not unique:
        documents += [{**document, "encoder": "again"} for document in documents[:40]]
    for number, document in enumerate(documents):
        for field, row in (("job_title_embeddings", rows[number % 300]), ("tech_skills_vectors", rows[-number % 300])):
            document[field] = encode_vector(row) if number % 2 else as_doubles(row)
        if number % 17 == 0:
            document["tech_skills_vectors"] = [0.0] * 8
    random.Random(0).shuffle(documents)
    jobs = database[mongo_names.collections.job_embeddings]
    jobs.delete_one({"original_job_id": "job-4"})
    jobs.insert_many(documents)
    settings: dict[str, Any] = {"batch_size": 2, "max_quarantined_share": 0.9}

    by_sorting = contents(extraction(**settings, readers=3))
    keys = [("original_job_id", 1)] if unique else [("original_job_id", 1), ("_id", 1)]
    jobs.create_index(keys, unique=unique)
    snapshots = []
    for readers in (1, 4):
        shutil.rmtree(tmp_path / "snapshots")
        snapshots.append(contents(extraction(**settings, readers=readers)))
    assert snapshots == [by_sorting, by_sorting]
    assert by_sorting["manifest.json"]["jobs"] > 250
    reasons = set(by_sorting["manifest.json"]["quarantined"]["job_embeddings"])
    assert reasons == {"zero norm", "bad type", "missing id", "duplicate id", "no vectors"}


def test_a_list_of_ids_counts_once(
    database: Mongo, mongo_names: MongoConfig, fill: Fill, extraction: Extraction
) -> None:
    fill()
    applicants = database[mongo_names.collections.applicant_embeddings]
    applicants.create_index("original_candidate_id", unique=True)
    applicants.insert_one({"original_candidate_id": ["aa", "zz"]})  # two entries in the index
    manifest = open_snapshot(extraction(batch_size=1, readers=2)).manifest
    assert manifest.quarantined["candidates_embeddings"] == {"bad type": 1}
    assert manifest.applicants == 20


def test_an_index_that_is_missing_is_asked_for(
    database: Mongo, mongo_names: MongoConfig, fill: Fill, extraction: Extraction, caplog: pytest.LogCaptureFixture
) -> None:
    fill()
    database[mongo_names.collections.applicant_embeddings].create_index("original_candidate_id", unique=True)
    extraction(batch_size=1)
    [record] = [record for record in caplog.records if record.name == "dynaq.data.reading"]
    assert "db.job_embeddings.createIndex({original_job_id: 1, _id: 1})" in record.getMessage()


@pytest.mark.parametrize(
    "changes",
    [
        {"job_fields": ["skills", "title"]},
        {"cosine_pairs": [["hard_skills", "title"]]},
        {"job_text": {"title": "title"}},
    ],
)
def test_other_content_has_another_digest(fill: Fill, extraction: Extraction, changes: dict[str, Any]) -> None:
    fill()
    assert extraction() != extraction(**changes)


def test_one_float_changes_the_digest(
    database: Mongo, mongo_names: MongoConfig, fill: Fill, extraction: Extraction
) -> None:
    fill(as_doubles)
    before = extraction()
    database[mongo_names.collections.job_embeddings].update_one(
        {"original_job_id": "job-3"}, {"$set": {"tech_skills_vectors.2": 0.25}}
    )
    assert extraction() != before


@pytest.mark.parametrize("key", ["job_embeddings", "applicant_embeddings", "jobs", "applicants"])
def test_an_empty_collection_is_named(
    database: Mongo, mongo_names: MongoConfig, fill: Fill, extraction: Extraction, key: str
) -> None:
    fill()
    name = getattr(mongo_names.collections, key)
    database[name].delete_many({})
    with pytest.raises(InputError) as refusal:
        extraction()
    for part in (f"collection {name} ", database.name, "run the ingest flow", f"mongo.collections.{key}"):
        assert part in str(refusal.value)


def test_missing_text_leaves_the_row_usable(
    database: Mongo, mongo_names: MongoConfig, fill: Fill, extraction: Extraction
) -> None:
    fill()
    database[mongo_names.collections.jobs].delete_one({"_id": "job-5"})
    snapshot = open_snapshot(extraction())
    assert snapshot.manifest.without_text == {"applicants": 0, "jobs": 1}
    assert snapshot.job_texts[snapshot.job_ids.index("job-5")] == {}
    assert snapshot.job_texts[snapshot.job_ids.index("job-6")] != {}


def test_ids_of_every_kind_find_their_text(
    database: Mongo, mongo_names: MongoConfig, fill: Fill, extraction: Extraction
) -> None:
    fill()
    referred, posting = [7, ObjectId("5f" * 12), "6e" * 12], [7, ObjectId("5f" * 12), ObjectId("6e" * 12)]
    jobs, embeddings = mongo_names.collections.jobs, mongo_names.collections.job_embeddings
    for number, (reference, key) in enumerate(zip(referred, posting, strict=True)):
        database[embeddings].update_one({"original_job_id": f"job-{number}"}, {"$set": {"original_job_id": reference}})
        database[jobs].delete_one({"_id": f"job-{number}"})
        database[jobs].insert_one({"_id": key, "title": f"new title {number}"})
    snapshot = open_snapshot(extraction())
    titles = dict(zip(snapshot.job_ids, snapshot.job_texts, strict=True))
    assert [titles[each]["title"] for each in ("7", "5f" * 12, "6e" * 12)] == [
        "new title 0",
        "new title 1",
        "new title 2",
    ]
    assert snapshot.manifest.quarantined["job_embeddings"] == {}


def test_a_field_that_no_document_has_is_warned_of(
    fill: Fill, extraction: Extraction, caplog: pytest.LogCaptureFixture
) -> None:
    fill()
    extraction(job_text={"title": "title"}, applicant_text={"place": "plcae", "hard_skills": "hard_skills"})
    warned = [record.getMessage() for record in caplog.records if record.name == "dynaq.data.extract"]
    assert warned == ["no applicant has the field plcae that extract.applicant_text.place names"]


def test_an_unchanged_market_renews_its_snapshot(fill: Fill, extraction: Extraction, tmp_path: Path) -> None:
    fill()
    first, other = extraction(), extraction(job_text={})
    written = (first / "jobs_vectors.f32").stat().st_ino
    created = open_snapshot(first).manifest.created
    assert latest_snapshot(tmp_path / "snapshots") == other
    (first / "jobs_unit_scale.f32").write_bytes(b"derived, and rotten")
    assert extraction() == first
    assert not (first / "jobs_unit_scale.f32").exists()
    assert latest_snapshot(tmp_path / "snapshots") == first
    assert open_snapshot(first, verify=True).manifest.created > created
    assert (first / "jobs_vectors.f32").stat().st_ino == written
    assert {path.name for path in first.parent.iterdir()} == {first.name, other.name}


def test_a_damaged_snapshot_is_set_aside_and_replaced(snapshot: Snapshot, extraction: Extraction) -> None:
    vectors = snapshot.path / "jobs_vectors.f32"
    vectors.write_bytes(bytes(vectors.stat().st_size))
    with pytest.raises(ArtifactError):
        open_snapshot(snapshot.path, verify=True)
    assert open_snapshot(extraction(), verify=True).path == snapshot.path
    assert list(snapshot.path.parent.iterdir()) == [snapshot.path]
    (aside,) = (snapshot.path.parents[1] / "damaged").iterdir()
    assert not any((aside / "jobs_vectors.f32").read_bytes())


def test_a_place_that_cannot_be_written(fill: Fill, extraction: Extraction, tmp_path: Path) -> None:
    fill()
    (tmp_path / "snapshots").write_text("a file")
    with pytest.raises(ArtifactError, match=r"cannot write .*snapshots: (File exists|Not a directory)"):
        extraction()


_CHILD = """
import sys
from pathlib import Path
from pymongo import MongoClient
from dynaq.config import ExtractConfig, MongoConfig
from dynaq.data.extract import extract_snapshot
host, port, database, mongo, extract, out_root = sys.argv[1:]
client = MongoClient(host, int(port), directConnection=True)
extract_snapshot(
    client[database],
    MongoConfig.model_validate_json(mongo),
    ExtractConfig.model_validate_json(extract),
    Path(out_root),
)
"""


def test_a_killed_run_leaves_nothing_behind(
    database: Mongo,
    mongo_names: MongoConfig,
    extract_config: ExtractConfig,
    fill: Fill,
    extraction: Extraction,
    tmp_path: Path,
) -> None:
    fill()
    vector = encode_vector(np.ones(8, dtype=np.float32))
    database[mongo_names.collections.applicant_embeddings].insert_many(
        [{"original_candidate_id": number, "hard_skill_embeddings": vector} for number in range(5000)]
    )
    out_root = tmp_path / "snapshots"
    assert database.client.address is not None
    host, port = database.client.address
    slow = extract_config.model_copy(update={"batch_size": 1})
    arguments = [host, str(port), database.name, mongo_names.model_dump_json(), slow.model_dump_json()]
    child = subprocess.Popen([sys.executable, "-c", _CHILD, *arguments, str(out_root)])
    try:
        while not list(out_root.glob(".writing@*/applicants_vectors.f32")):
            assert child.poll() is None
            time.sleep(0.005)
    finally:
        child.kill()
    assert child.wait() == -9
    [left] = out_root.iterdir()
    with pytest.raises(ArtifactError, match="there is no snapshot"):
        latest_snapshot(out_root)
    final = extraction()
    assert list(out_root.iterdir()) == [final] == [latest_snapshot(out_root)]
    assert not left.exists()


def test_memory_is_bounded_by_the_batch(
    database: Mongo, mongo_names: MongoConfig, fill: Fill, extraction: Extraction
) -> None:
    fill()
    rows = np.random.default_rng(0).normal(size=(20_000, 256)).astype(np.float32)
    for name in (mongo_names.collections.applicant_embeddings, mongo_names.collections.job_embeddings):
        database[name].drop()
    database[mongo_names.collections.applicant_embeddings].insert_many(
        {"original_candidate_id": number, "hard_skill_embeddings": encode_vector(row)}
        for number, row in enumerate(rows)
    )
    job = {"original_job_id": 0}
    job |= dict.fromkeys(mongo_names.job_vectors.values(), encode_vector(rows[0]))  # type: ignore[arg-type]
    database[mongo_names.collections.job_embeddings].insert_one(job)
    tracemalloc.start()
    try:
        path = extraction(dimension=256, batch_size=200, applicant_text={}, job_text={})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert open_snapshot(path).applicants.nbytes == rows.nbytes
    print(f"peak {peak / 2**20:.1f} MiB for {rows.nbytes / 2**20:.1f} MiB of vectors")
    assert peak < rows.nbytes / 3


def test_the_latest_extraction_is_the_last_one_though_the_clock_went_back(
    fill: Fill, extraction: Extraction, tmp_path: Path
) -> None:
    fill()
    first = extraction()
    manifest = first / "manifest.json"
    in_an_hour = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="microseconds")
    manifest.write_text(manifest.read_text().replace(open_snapshot(first).manifest.created, in_an_hour))
    assert open_snapshot(first).manifest.created == in_an_hour
    assert latest_snapshot(tmp_path / "snapshots") == first
    other = extraction(job_text={})
    assert latest_snapshot(tmp_path / "snapshots") == other
