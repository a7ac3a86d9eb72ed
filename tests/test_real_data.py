"""A slice of public postings and resumes through the whole library: ingest, embed, extract, train, judge."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pymongo.database import Database

from dynaq.agents.arms import Arm
from dynaq.agents.stages import pretrain
from dynaq.config_file import load_config
from dynaq.data.embed import embed_documents
from dynaq.data.extract import extract_snapshot
from dynaq.data.ingest import load_documents
from dynaq.data.snapshot import open_snapshot
from dynaq.embedding.minilm import MiniLM
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.world import OWN, World
from dynaq.evaluation.online import read_online, run_online
from dynaq.evaluation.panel import make_panel
from dynaq.evaluation.similarity import similarity_reached
from tests.paths import ROOT

FOLDER = Path(os.environ.get("DYNAQ_REAL_DATA", ROOT.parent / "shared" / "data"))
FILES = {"jobs": "usajobs_postings.parquet", "applicants": "livecareer_resumes.parquet"}

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not all((FOLDER / name).exists() for name in FILES.values()), reason=f"no data in {FOLDER}"),
]


def test_a_slice_of_real_postings_and_resumes(
    database: Database[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side, rows in (("jobs", 120), ("applicants", 60)):
        table = pd.read_parquet(FOLDER / FILES[side]).sample(rows, random_state=0)
        table["text"] = table["text"].str[:400]  # embedding time grows with the text
        table.to_parquet(tmp_path / FILES[side])
    monkeypatch.setenv("DYNAQ_REAL_DATA", str(tmp_path))
    quick = {"workdir": str(tmp_path), "agent.hidden": [64], "pretrain.steps": 60, "compare.steps": 10}
    config = load_config(ROOT / "configs" / "real.yaml", quick)
    assert config.ingest is not None
    names, mongo = config.mongo.collections, config.mongo
    for side, texts, vectors, id_field, fields in (
        ("jobs", names.jobs, names.job_embeddings, mongo.job_id, mongo.job_vectors),
        ("applicants", names.applicants, names.applicant_embeddings, mongo.applicant_id, mongo.applicant_vectors),
    ):
        loaded = load_documents(
            database, texts, getattr(config.ingest, side), section=f"ingest.{side}", generated=False
        )
        assert loaded.written == loaded.read > 0
        embedded = embed_documents(database, texts, vectors, id_field, fields, MiniLM(), config.embedding)
        assert embedded.written == loaded.written
    snapshot = open_snapshot(extract_snapshot(database, mongo, config.extract, tmp_path / "snapshots"))
    assert (snapshot.manifest.jobs, snapshot.manifest.applicants) == (120, 60)
    arm = Arm("cosine", 0.3, 0)
    checkpoint = pretrain(config, snapshot, arm)
    reached = similarity_reached(config, snapshot, arm, checkpoint)
    assert reached.trained > reached.random + 0.25 * (reached.best - reached.random)
    assert reached.trained > reached.untrained
    panel = make_panel(config, snapshot, None, {})
    cosine = read_online(run_online(config, snapshot, panel, Contestant("cosine", 0.3), World(OWN), 0, checkpoint))
    random = read_online(run_online(config, snapshot, panel, Contestant("random", 0.3), World(OWN), 0, None))
    assert 0 < cosine.rewards.mean() < 1
    assert cosine.best.mean() > random.chances.mean()
