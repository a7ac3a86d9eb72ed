"""The four agents in one simulated online environment, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from dynaq.agents import stages
from dynaq.agents.arms import Arm, arms
from dynaq.config import Config, load_config
from dynaq.data.snapshot import Snapshot, latest_snapshot, open_snapshot
from dynaq.errors import ArtifactError
from dynaq.llm.endpoint import RULE_SIM, resolve_endpoint
from flows.fan_out import fan_out
from tasks.compare import measure_similarity, run_arm, run_reference
from tasks.report import end_night, start_night, track_night, write_night


@flow
def compare(
    config: str = "configs/demo.yaml",
    overrides: dict[str, Any] | None = None,
    snapshot: Path | None = None,
    night: str | None = None,
    seconds: dict[str, float] | None = None,
) -> Path:
    """Compare checkpoints that the earlier flows have written; returns the report's directory.

    Args:
        config: the same configuration that they were trained with.
        overrides: dotted keys, likewise.
        snapshot: directory; the latest one if not given.
        night: MLflow run to log to; a new one if not given.
        seconds: time of earlier stages, for the report.
    """
    settings = load_config(config, overrides)
    opened = open_snapshot(snapshot or latest_snapshot(settings.work_path / "snapshots"))
    endpoint = resolve_endpoint()
    source = endpoint.provenance if endpoint else RULE_SIM
    checkpoints = find_checkpoints(settings, opened, f"llm:{source}")
    run_id = night or start_night(settings, f"compare {settings.name}")
    shared = {"config": settings, "snapshot": opened.path}
    every = arms(settings, "cosine", "llm", "hybrid", "baseline")
    online = fan_out(
        run_arm,
        {arm: {**shared, "arm": arm, "checkpoint": checkpoints.get(arm)} for arm in every},
        settings.processes,
    )
    seeds = dict.fromkeys(arm.seed for arm in every)
    references = {seed: run_reference(settings, opened.path, seed) for seed in seeds}
    similarity = [
        measure_similarity(settings, opened.path, arm, checkpoints[arm])
        for arm in every
        if arm.agent == "cosine" and arm.gamma == settings.agent.gamma
    ]
    report = write_night(settings, opened.path, checkpoints, online, references, similarity, source, seconds or {})
    track_night(settings, run_id, opened.path, checkpoints, online, references, similarity, report)
    if night is None:
        end_night(settings, run_id, True, {})
    return report


def find_checkpoints(config: Config, snapshot: Snapshot, reward: str) -> dict[Arm, Path]:
    """The checkpoint each arm starts from; the baseline starts from none.

    Raises:
        ArtifactError: an arm has not been trained with this configuration on this snapshot.
    """
    paths = {arm: stages.pretrained_path(config, snapshot, arm) for arm in arms(config, "cosine")}
    paths |= {arm: stages.finetuned_path(config, snapshot, arm, reward) for arm in arms(config, "llm", "hybrid")}
    if missing := [arm.name for arm, path in paths.items() if not path.exists()]:
        raise ArtifactError(
            f"{len(missing)} of {len(paths)} arms have no checkpoint on snapshot {snapshot.path.name} with this"
            f" configuration ({missing[0]}, ...): run the pretrain and finetune flows first"
        )
    return paths
