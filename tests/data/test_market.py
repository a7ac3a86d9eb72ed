"""The demo market: the same seed gives the same market, and it hangs together."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dynaq.config import MarketConfig
from dynaq.config_file import load_config
from dynaq.data.market import generate_market, market_tables
from dynaq.data.market_vocabulary import OCCUPATIONS

ROOT = Path(__file__).parents[2]
MARKET = MarketConfig(jobs=400, applicants=100, seed=3)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    once = generate_market(MARKET, tmp_path / "once")
    again = generate_market(MARKET, tmp_path / "again")
    other = generate_market(MARKET.model_copy(update={"seed": 4}), tmp_path / "other")
    for one, two, three in zip(once, again, other, strict=True):
        assert one.read_bytes() == two.read_bytes() != three.read_bytes()


def test_reused_until_the_knobs_change_or_a_file_is_damaged(tmp_path: Path) -> None:
    jobs, applicants = generate_market(MARKET, tmp_path)
    written = jobs.stat().st_mtime_ns
    generate_market(MARKET, tmp_path)
    assert jobs.stat().st_mtime_ns == written

    whole = applicants.read_bytes()
    applicants.write_bytes(whole[:100])
    generate_market(MARKET, tmp_path)
    assert applicants.read_bytes() == whole

    generate_market(MARKET.model_copy(update={"jobs": 10}), tmp_path)
    assert len(pd.read_parquet(jobs)) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["applicants.parquet", "jobs.parquet"]


def test_more_jobs_do_not_change_the_applicants(tmp_path: Path) -> None:
    few = generate_market(MARKET, tmp_path / "few")
    many = generate_market(MARKET.model_copy(update={"jobs": 500}), tmp_path / "many")
    pd.testing.assert_frame_equal(pd.read_parquet(few[1]), pd.read_parquet(many[1]))
    pd.testing.assert_frame_equal(pd.read_parquet(few[0]), pd.read_parquet(many[0])[:400])


def test_market_hangs_together(tmp_path: Path) -> None:
    jobs, applicants = (pd.read_parquet(path) for path in generate_market(MARKET, tmp_path))
    for table, size in ((jobs, 400), (applicants, 100)):
        assert table["id"].nunique() == len(table) == size
        assert table["id"].str.startswith("gen-").all()
        assert not table.isna().any().any()
    assert jobs["title"].str.split().str.len().max() < 8
    pay = jobs.groupby("seniority")["pay"].median()
    assert pay["junior"] < pay["mid"] < pay["senior"] < pay["lead"]
    assert applicants["hard_skills"].str.split(", ").str.len().between(4, 9).all()
    assert applicants["occupation"].nunique() >= 12
    assert set(applicants["remote"]) == {"yes", "hybrid", "no"}


def test_vocabulary_is_consistent() -> None:
    roles = [occupation.role for occupation in OCCUPATIONS]
    assert len(set(roles)) == len(roles) >= 12
    for occupation in OCCUPATIONS:
        assert occupation.near
        assert set(occupation.near) < set(roles) - {occupation.role}
        assert 12 <= len(set(occupation.skills)) == len(occupation.skills) <= 20
        assert sum(occupation.remote) == pytest.approx(1)
    # Neighbours share skills, otherwise an embedding would see islands.
    skills = {occupation.role: set(occupation.skills) for occupation in OCCUPATIONS}
    assert all(any(skills[one.role] & skills[near] for near in one.near) for one in OCCUPATIONS)


def test_mapping_feeds_the_default_fields(tmp_path: Path) -> None:
    tables = market_tables(tmp_path)
    defaults = load_config(ROOT / "configs" / "base.yaml")
    assert list(tables.jobs.columns) == list(defaults.mongo.job_vectors)
    assert list(tables.applicants.columns) == list(defaults.mongo.applicant_vectors)
    for table, shown in (
        (tables.jobs, defaults.extract.job_text),
        (tables.applicants, defaults.extract.applicant_text),
    ):
        assert set(shown.values()) <= {*table.columns, *table.attributes}
