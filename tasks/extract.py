"""Embedding collections into a snapshot."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from dynaq.config import Config
from dynaq.data.connection import open_database
from dynaq.data.extract import extract_snapshot
from tasks.retry import RETRY


@task(**RETRY)
def take_snapshot(config: Config) -> Path:
    """Extract a snapshot; returns its directory, named by the digest of its content."""
    with open_database(config.mongo, config.work_path) as database:
        fresh = config.fresh is not None
        return extract_snapshot(database, config.mongo, config.extract, config.work_path / "snapshots", fresh)
