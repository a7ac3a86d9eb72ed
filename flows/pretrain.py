"""Pre-training on the cosine reward."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect import flow

from dynaq.agents.arms import Arm, arms
from dynaq.agents.stages import pretrained_path
from dynaq.config_file import load_config
from dynaq.data.snapshot import open_snapshot
from flows.alone import alone
from flows.fan_out import fan_out
from flows.night import find_snapshot, say_reused
from tasks.train import pretrain_arm


@flow
@alone
def pretrain(
    config: str = "configs/demo.yaml", overrides: dict[str, Any] | None = None, snapshot: Path | None = None
) -> dict[str, Path]:
    """Pre-train every seed and discount on a snapshot; returns checkpoint directories by arm.

    Args:
        config: a YAML file under configs/, or one of yours that extends configs/base.yaml.
        overrides: knobs to change for this run, by dotted key, as {"agent.gamma": 0.5}.
        snapshot: directory to work on; the latest one if not given.
    """
    settings, since = load_config(config, overrides), time.time()
    snapshot = find_snapshot(settings, snapshot)
    calls: dict[Arm, dict[str, Any]] = {
        arm: {"config": settings, "snapshot": snapshot, "arm": arm} for arm in arms(settings, "cosine")
    }
    opened = open_snapshot(snapshot)
    paths: dict[Arm, Path] = fan_out(
        pretrain_arm, calls, settings, results=lambda arm: [pretrained_path(settings, opened, arm)]
    )
    say_reused("pretrain", since, {"checkpoints": paths.values()})
    return {arm.name: path for arm, path in paths.items()}
