"""A small market in MongoDB: 20 applicants with one vector each, 12 jobs with two, and their texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymongo.database import Database

from dynaq.config import ExtractConfig, MongoConfig
from dynaq.data.extract import extract_snapshot
from dynaq.data.snapshot import Snapshot, open_snapshot
from dynaq.data.vectors import encode_vector

DIMENSION = 8

Fill = Callable[..., None]
Extraction = Callable[..., Path]


@pytest.fixture
def extract_config() -> ExtractConfig:
    return ExtractConfig(
        job_fields=["title", "skills"],
        applicant_fields=["hard_skills"],
        dimension=DIMENSION,
        cosine_pairs=[["hard_skills", "skills"], ["hard_skills", "title"]],
        job_text={"title": "title", "remote": "remote", "skills": "skills"},
        applicant_text={"hard_skills": "hard_skills", "place": "home.city"},
        batch_size=5,
        readers=1,
        max_quarantined_share=0.1,
    )


@pytest.fixture
def mongo_names(mongo_config: MongoConfig) -> MongoConfig:
    return mongo_config.model_copy(
        update={
            "job_id": "original_job_id",
            "applicant_id": "original_candidate_id",
            "job_vectors": {"title": "job_title_embeddings", "skills": "tech_skills_vectors"},
            "applicant_vectors": {"hard_skills": "hard_skill_embeddings"},
        }
    )


@pytest.fixture
def fill(database: Database[dict[str, Any]], mongo_names: MongoConfig) -> Fill:
    """Write the market, with another encoding of vectors or order of insertion if asked."""

    def write(encode: Callable[[Any], Any] = encode_vector, backwards: bool = False) -> None:
        rows = np.random.default_rng(0).normal(size=(20 + 2 * 12, DIMENSION)).astype(np.float32)
        names = mongo_names.collections
        applicants = [f"applicant-{number}" for number in range(20)]
        jobs = [f"job-{number}" for number in range(12)]
        written = {
            names.applicants: [
                {"_id": each, "hard_skills": ["python", each], "home": {"city": "Oslo"}} for each in applicants
            ],
            names.applicant_embeddings: [
                {"original_candidate_id": each, "hard_skill_embeddings": encode(row), "encoder": "toy"}
                for each, row in zip(applicants, rows[:20], strict=True)
            ],
            names.jobs: [{"_id": each, "title": f"title of {each}", "remote": True} for each in jobs],
            names.job_embeddings: [
                {
                    "original_job_id": each,
                    "job_title_embeddings": encode(title),
                    "tech_skills_vectors": encode(skills),
                    "encoder": "toy",
                    "generated": True,
                }
                for each, title, skills in zip(jobs, rows[20:32], rows[32:], strict=True)
            ],
        }
        for name, documents in written.items():
            database[name].drop()
            database[name].insert_many(documents[::-1] if backwards else documents)

    return write


@pytest.fixture
def extraction(
    database: Database[dict[str, Any]],
    mongo_names: MongoConfig,
    extract_config: ExtractConfig,
    tmp_path: Path,
) -> Extraction:
    """Extract into tmp_path / snapshots, with changes to the configuration."""

    def run(**changes: Any) -> Path:
        config = extract_config.model_copy(update=changes)
        return extract_snapshot(database, mongo_names, config, tmp_path / "snapshots")

    return run


@pytest.fixture
def snapshot(fill: Fill, extraction: Extraction) -> Snapshot:
    """The market, extracted and open."""
    fill()
    return open_snapshot(extraction())
