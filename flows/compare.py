"""The four agents in one simulated online environment, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from dynaq.agents import stages
from dynaq.agents.arms import Arm, WarmStart, arms
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.connection import open_database
from dynaq.data.snapshot import Snapshot, open_snapshot
from dynaq.errors import ArtifactError
from dynaq.llm.endpoint import RULE_SIM, resolve_endpoint
from dynaq.rewards.llm_feedback import reward_name
from flows.fan_out import fan_out
from flows.night import MLflowNight, find_snapshot, mlflow_night
from tasks.compare import measure_similarity, run_arm, run_reference
from tasks.labelling import latest_audit, open_ledger, today
from tasks.report import Labelling, Outputs, show_night, track_night, write_night


@flow
def compare(
    config: str = "configs/demo.yaml", overrides: dict[str, Any] | None = None, snapshot: Path | None = None
) -> Path:
    """Compare checkpoints that the earlier flows have written; returns the report's directory.

    Args:
        config: the same configuration that they were trained with.
        overrides: dotted keys, likewise.
        snapshot: directory; the latest one if not given.
    """
    settings = load_config(config, overrides)
    path = find_snapshot(settings, snapshot)
    with mlflow_night(settings, f"compare {settings.name}") as night:
        return compare_arms(settings, path, night, today())


def compare_arms(settings: Config, snapshot: Path, night: MLflowNight, day: str) -> Path:
    """Run all arms online, write the report, log both to MLflow; returns the report's directory."""
    endpoint = resolve_endpoint()
    source = endpoint.provenance if endpoint else RULE_SIM
    opened = open_snapshot(snapshot)
    audit = latest_audit(settings, opened, source)
    weight = audit.weight if audit else 1.0
    checkpoints = find_checkpoints(settings, opened, reward_name(source), weight)
    shared = {"config": settings, "snapshot": snapshot}
    tuned: list[WarmStart] = ["llm", "hybrid"] if weight > 0 else []
    every = arms(settings, "cosine", *tuned, "baseline")
    with night.timed("compare"):
        online = fan_out(
            run_arm,
            {arm: {**shared, "arm": arm, "checkpoint": checkpoints.get(arm)} for arm in every},
            settings.processes,
        )
        outputs = Outputs(
            snapshot=snapshot,
            checkpoints=checkpoints,
            online=online,
            references={
                seed: run_reference(settings, snapshot, seed) for seed in dict.fromkeys(arm.seed for arm in every)
            },
            similarity=[
                measure_similarity(settings, snapshot, arm, checkpoints[arm])
                for arm in every
                if arm.agent == "cosine" and arm.gamma == settings.agent.gamma
            ],
        )
    with open_database(settings.mongo, settings.work_path) as database:
        spent = open_ledger(settings, opened, database, source, day).total()
    report = write_night(settings, outputs, Labelling(source, spent, audit), night.seconds)
    show_night(settings, report)
    track_night(settings, night.run_id, outputs, Labelling(source, spent, audit), report)
    return report


def find_checkpoints(config: Config, snapshot: Snapshot, reward: str, weight: float) -> dict[Arm, Path]:
    """The checkpoint each arm starts from; the baseline starts from none.

    Args:
        config, snapshot: what was trained on what.
        reward: name of the LLM's reward.
        weight: how far its labels counted; at 0 nothing was fine-tuned.

    Raises:
        ArtifactError: an arm has not been trained with this configuration on this snapshot.
    """
    paths = {arm: stages.pretrained_path(config, snapshot, arm) for arm in arms(config, "cosine")}
    if weight > 0:
        for arm in arms(config, "llm", "hybrid"):
            paths[arm] = stages.finetuned_path(config, snapshot, arm, reward, weight)
    if missing := [arm.name for arm, path in paths.items() if not path.exists()]:
        raise ArtifactError(
            f"{len(missing)} of {len(paths)} arms have no checkpoint on snapshot {snapshot.path.name} with this"
            f" configuration ({missing[0]}, ...): run the pretrain and finetune flows first"
        )
    return paths
