"""A whole night: ingest, extract, pretrain, finetune, compare."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow

from dynaq.config import load_config
from dynaq.data.connection import open_database
from flows.compare import compare
from flows.extract import extract
from flows.finetune import finetune
from flows.ingest import ingest
from flows.pretrain import pretrain
from tasks.report import end_night, start_night


@flow
def nightly(config: str = "configs/demo.yaml", overrides: dict[str, Any] | None = None) -> Path:
    """Run every stage on what MongoDB holds tonight; returns the report's directory.

    What an earlier or interrupted night has finished for the same inputs is reused.
    """
    settings = load_config(config, overrides)
    seconds: dict[str, float] = {}
    with open_database(settings.mongo, settings.work_path):  # an embedded mongod stays up between the stages
        night = start_night(settings, f"nightly {settings.name}")
        succeeded = False
        try:
            if settings.market or settings.ingest:
                with _timed(seconds, "ingest"):
                    ingest(config, overrides)
            with _timed(seconds, "extract"):
                snapshot = extract(config, overrides)
            with _timed(seconds, "pretrain"):
                pretrain(config, overrides, snapshot)
            with _timed(seconds, "finetune"):
                finetune(config, overrides, snapshot)
            with _timed(seconds, "compare"):
                report = compare(config, overrides, snapshot, night, seconds)
            succeeded = True
        finally:
            end_night(settings, night, succeeded, seconds)
    return report


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - start
