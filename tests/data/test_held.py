"""A night that reads only what has changed leaves the snapshot that reading everything leaves."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bson import ObjectId
from pymongo.database import Database

from dynaq.config import ExtractConfig, MongoConfig
from dynaq.data.extract import extract_snapshot
from dynaq.data.manifest import FileRecord
from dynaq.data.snapshot import open_snapshot
from dynaq.data.vectors import encode_vector

Mongo = Database[dict[str, Any]]
Night = Callable[..., tuple[Path, int]]

ROW = np.linspace(1, 2, 8).astype(np.float32)


@pytest.fixture
def night(
    database: Mongo,
    mongo_names: MongoConfig,
    extract_config: ExtractConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> Night:
    """Extract, and compare with an extraction that starts from nothing; the snapshot, and documents left unread."""
    caplog.set_level(logging.INFO, "dynaq.data.extract")
    out = tmp_path / "snapshots"

    def run(database: Mongo = database, mongo: MongoConfig = mongo_names, **changes: Any) -> tuple[Path, int]:
        extract = extract_config.model_copy(update={"max_quarantined_share": 0.5, **changes})
        caplog.clear()
        path = extract_snapshot(database, mongo, extract, out)
        unread = sum(int(number) for number in re.findall(r": (\d+) of \d+ have not changed", caplog.text))
        anew = extract_snapshot(database, mongo, extract, tmp_path / f"alone-{len(list(tmp_path.iterdir()))}")
        listed = [sorted((each / "quarantine.jsonl").read_text().splitlines()) for each in (path, anew)]
        assert listed[0] == listed[1]
        assert path.name == anew.name
        assert open_snapshot(path).manifest.encoders == open_snapshot(anew).manifest.encoders
        for side in ("jobs", "applicants"):
            assert (path / f"{side}_versions.u64").read_bytes() == (anew / f"{side}_versions.u64").read_bytes()
        return path, unread

    return run


@pytest.fixture
def market(database: Mongo, mongo_names: MongoConfig, fill: Callable[..., None]) -> Mongo:
    """With versions, a job of which no vector can be used, and another that is there twice."""
    fill()
    names = mongo_names.collections
    jobs = database[names.job_embeddings]
    jobs.update_one({"original_job_id": "job-3"}, {"$set": {"tech_skills_vectors": "none"}})
    twin = jobs.find_one({"original_job_id": "job-5"}, {"_id": 0})
    jobs.insert_one({**(twin or {}), "job_title_embeddings": encode_vector(ROW)})
    for name in (names.applicant_embeddings, names.job_embeddings):
        database[name].update_many({}, {"$set": {"text_hashes": {"title": "a"}}})
    for name in (names.applicants, names.jobs):
        database[name].update_many({}, {"$set": {"content_hash": "a"}})
    return database


def test_what_has_not_changed_is_not_read_again(market: Mongo, night: Night) -> None:
    first, unread = night()
    assert unread == 0
    assert night() == (first, 20 + 11)


@pytest.mark.parametrize("arrays", [False, True])
def test_changes_of_every_kind_are_seen(market: Mongo, mongo_names: MongoConfig, night: Night, arrays: bool) -> None:
    encode: Callable[[Any], Any] = (lambda row: row.astype(float).tolist()) if arrays else encode_vector
    names = mongo_names.collections
    vectors, texts, one = market[names.job_embeddings], market[names.jobs], "original_job_id"
    if arrays:
        for document in vectors.find({"tech_skills_vectors": {"$ne": "none"}}):
            both = {key: encode(np.frombuffer(value[2:], "<f4")) for key, value in document.items() if "s_vec" in key}
            vectors.update_one({"_id": document["_id"]}, {"$set": both})
    night()
    changed = {"text_hashes": {"title": "b"}}
    vectors.update_one({one: "job-1"}, {"$set": {**changed, "job_title_embeddings": encode(ROW)}})
    vectors.update_one({one: "job-2"}, {"$set": {**changed, "job_title_embeddings": None}})
    vectors.update_one({one: "job-3"}, {"$set": {**changed, "tech_skills_vectors": encode(ROW)}})
    vectors.delete_one({one: "job-4", "text_hashes": {"title": "a"}})
    vectors.delete_one({one: "job-5"})  # its twin takes its place
    vectors.insert_one({one: "job-4a", "job_title_embeddings": encode(ROW), "tech_skills_vectors": encode(ROW)})
    texts.update_one({"_id": "job-6"}, {"$set": {"content_hash": "b", "title": "another title"}})
    texts.delete_one({"_id": "job-7"})
    texts.insert_one({"_id": "job-4a", "title": "new", "content_hash": "a"})
    vectors.update_one({one: "job-8"}, {"$set": {"encoder": "another"}})
    vectors.update_one({one: "job-9"}, {"$set": {one: ObjectId("5f" * 12)}})
    market[names.applicants].update_one({"_id": "applicant-0"}, {"$unset": {"content_hash": ""}})

    path, unread = night()
    assert unread == 20 + 5  # jobs 0, 6, 7, 10 and 11
    snapshot = open_snapshot(path)
    jobs = {f"job-{number}" for number in range(12)} - {"job-2", "job-4", "job-9"} | {"job-4a", "5f" * 12}
    assert snapshot.job_ids == sorted(jobs, key=lambda each: (each.startswith("5f"), each))  # ObjectIds come last
    assert snapshot.job_texts[snapshot.job_ids.index("job-6")]["title"] == "another title"
    np.testing.assert_array_equal(snapshot.jobs[snapshot.job_ids.index("job-1"), :8], ROW)


def test_the_version_says_what_has_changed_and_a_fresh_extraction_does_not_ask(
    market: Mongo, mongo_names: MongoConfig, extract_config: ExtractConfig, tmp_path: Path
) -> None:
    def extracted(fresh: bool = False) -> str:
        extract = extract_config.model_copy(update={"max_quarantined_share": 0.5})
        return extract_snapshot(market, mongo_names, extract, tmp_path, fresh).name

    before = extracted()
    jobs = market[mongo_names.collections.job_embeddings]
    jobs.update_one({"original_job_id": "job-1"}, {"$set": {"job_title_embeddings": encode_vector(ROW)}})
    assert extracted() == before
    assert extracted(fresh=True) != before


def test_what_would_be_read_otherwise_is_read(market: Mongo, mongo_names: MongoConfig, night: Night) -> None:
    night()
    assert night(job_fields=["skills", "title"])[1] == 20
    night()
    assert night(job_text={"name": "title"})[1] == 20
    night()
    assert night(job_fields=["title"], cosine_pairs=[["hard_skills", "title"]])[1] == 20
    night()
    for field in ("hard_skill_embeddings", "job_title_embeddings", "tech_skills_vectors"):
        for name in (mongo_names.collections.applicant_embeddings, mongo_names.collections.job_embeddings):
            market[name].update_many({field: {"$type": "binData"}}, {"$set": {field: encode_vector(ROW[:4])}})
    assert night(dimension=4)[1] == 0


def test_versions_that_are_not_named_are_not_trusted(market: Mongo, mongo_names: MongoConfig, night: Night) -> None:
    night()
    versions = mongo_names.versions.model_copy(update={"vectors": None})
    assert night(mongo=mongo_names.model_copy(update={"versions": versions}))[1] == 0


@pytest.mark.parametrize("name", ["jobs_vectors.f32", "jobs_texts.jsonl"])
def test_a_damaged_snapshot_holds_nothing(market: Mongo, night: Night, name: str) -> None:
    path, _ = night()
    content = bytearray((path / name).read_bytes())
    content[20] ^= 1
    (path / name).write_bytes(content)
    assert night()[1] == 0
    assert list((path.parents[1] / "damaged").iterdir()) != []


@pytest.mark.parametrize("kept", [None, 16])
def test_versions_that_are_lost_cost_time_only(market: Mongo, night: Night, kept: int | None) -> None:
    path, _ = night()
    file = path / "jobs_versions.u64"
    file.unlink() if kept is None else file.write_bytes(file.read_bytes()[:kept])
    assert night()[1] == 20


def test_a_view_is_read_too(market: Mongo, mongo_names: MongoConfig, night: Night) -> None:
    collections = mongo_names.collections
    market.create_collection("open_jobs", viewOn=collections.job_embeddings, pipeline=[])
    collections = collections.model_copy(update={"job_embeddings": "open_jobs"})
    path, _ = night(mongo=mongo_names.model_copy(update={"collections": collections}))
    assert open_snapshot(path).manifest.jobs == 11


def inodes(path: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in path.iterdir() if file.name != "manifest.json"}


def test_an_unchanged_night_keeps_every_file_and_what_stages_have_written_beside_them(
    market: Mongo, mongo_names: MongoConfig, night: Night
) -> None:
    path, _ = night()
    (path / "jobs_unit_scale.f32").write_bytes(b"derived")
    record = path / "jobs_unit_scale.f32.record"
    record.write_text(FileRecord.of(path / "jobs_unit_scale.f32").model_dump_json())
    before, created = inodes(path), open_snapshot(path).manifest.created
    assert night()[0] == path
    assert inodes(path) == before
    assert open_snapshot(path).manifest.created > created
    (path / "jobs_unit_scale.f32").write_bytes(b"rotten!")
    assert night()[0] == path
    assert inodes(path).keys() == before.keys() - {"jobs_unit_scale.f32", record.name}


@pytest.mark.parametrize(("collection", "field"), [("job_embeddings", "text_hashes"), ("jobs", "content_hash")])
def test_a_document_without_a_version_is_read_every_night(
    market: Mongo, mongo_names: MongoConfig, night: Night, collection: str, field: str
) -> None:
    documents = market[getattr(mongo_names.collections, collection)]
    documents.update_one({"_id": documents.find_one()["_id"]}, {"$unset": {field: ""}})
    path, _ = night()
    kept = inodes(path)
    assert night()[0] == path
    assert inodes(path)["jobs_versions.u64"] != kept["jobs_versions.u64"]
    assert inodes(path)["jobs_vectors.f32"] == kept["jobs_vectors.f32"]
    assert open_snapshot(path).manifest.versions is None
