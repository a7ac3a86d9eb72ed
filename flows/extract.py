"""A snapshot of the embedding collections."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from dynaq.config_file import load_config
from dynaq.data.snapshot import open_snapshot
from flows.alone import alone
from flows.night import say_reused
from tasks.extract import take_snapshot


@flow
@alone
def extract(config: str = "configs/demo.yaml", overrides: dict[str, Any] | None = None) -> Path:
    """Extract a snapshot from MongoDB; returns its directory.

    Args:
        config: a YAML file under configs/, or one of yours that extends configs/base.yaml.
        overrides: knobs to change for this run, by dotted key, as {"agent.gamma": 0.5}.
    """
    settings, since = load_config(config, overrides), time.time()
    path = take_snapshot(settings)
    manifest = open_snapshot(path).manifest
    quarantined = {name: reasons for name, reasons in manifest.quarantined.items() if reasons}
    get_run_logger().info(
        "snapshot %s: %d applicants, %d jobs, quarantined %s",
        path.name,
        manifest.applicants,
        manifest.jobs,
        quarantined or "none",
    )
    say_reused("extract", since, {"snapshots": [path]})
    return path
