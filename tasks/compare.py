"""Online runs of the arms, what the best and a random choice would earn, and the report."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from dynaq.agents.arms import Arm
from dynaq.config import Config
from dynaq.data.snapshot import open_snapshot
from dynaq.evaluation.comparison import reference_rewards, run_online
from dynaq.evaluation.similarity import SimilarityReached, similarity_reached
from tasks.retry import RETRY


@task(**RETRY, task_run_name="online-{arm.name}")
def run_arm(config: Config, snapshot: Path, arm: Arm, checkpoint: Path | None) -> Path:
    """Let one arm learn online in the held-out market; returns its result directory."""
    return run_online(config, open_snapshot(snapshot), arm, checkpoint)


@task(**RETRY, task_run_name="reference-s{seed}")
def run_reference(config: Config, snapshot: Path, seed: int) -> Path:
    """What the best and a random choice earn in a seed's market; returns the result directory."""
    return reference_rewards(config, open_snapshot(snapshot), seed)


@task(**RETRY, task_run_name="similarity-{arm.name}")
def measure_similarity(config: Config, snapshot: Path, arm: Arm, checkpoint: Path) -> SimilarityReached:
    """How much of the best possible cosine a pre-trained agent reaches on held-out applicants."""
    return similarity_reached(config, open_snapshot(snapshot), arm, checkpoint)
