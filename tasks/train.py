"""Training of one (agent, discount, seed)."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from dynaq.agents import stages
from dynaq.agents.arms import Arm
from dynaq.config import Config
from dynaq.data.connection import open_database
from dynaq.data.experiences import ExperienceStore
from dynaq.data.snapshot import open_snapshot
from dynaq.rewards.llm_feedback import LLMFeedback
from tasks.labelling import open_labeller
from tasks.retry import RETRY


@task(**RETRY, task_run_name="pretrain-{arm.name}")
def pretrain_arm(config: Config, snapshot: Path, arm: Arm) -> Path:
    """Pre-train on the cosine; returns the checkpoint directory."""
    return stages.pretrain(config, open_snapshot(snapshot), arm)


@task(**RETRY, task_run_name="finetune-{arm.name}")
def finetune_arm(config: Config, snapshot: Path, arm: Arm, stand_in: str | None, weight: float, day: str) -> list[Path]:
    """Fine-tune on LLM feedback and record what was experienced; returns a checkpoint directory for each budget."""
    opened = open_snapshot(snapshot)
    with (
        open_database(config.mongo, config.work_path) as database,
        open_labeller(config, opened, database, stand_in, day, share=1 / config.processes) as labeller,
    ):
        reward = LLMFeedback(opened, labeller, config.llm)
        checkpoints = stages.finetune(config, opened, arm, reward, weight)
        experiences = ExperienceStore(database[config.mongo.collections.experiences])
        stages.record_experience(checkpoints[-1], opened, experiences)  # it holds what the earlier ones hold
        return checkpoints
