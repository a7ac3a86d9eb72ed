"""Training of one (agent, discount, seed)."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from dynaq.agents import stages
from dynaq.agents.arms import Arm
from dynaq.config import Config
from dynaq.data.connection import open_database
from dynaq.data.experiences import ExperienceStore
from dynaq.data.labels import LabelStore
from dynaq.data.snapshot import open_snapshot
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import Endpoint, resolve_endpoint, rule_sim_endpoint
from dynaq.rewards.llm_feedback import LLMFeedback
from tasks.retry import RETRY


@task(**RETRY, task_run_name="pretrain-{arm.name}")
def pretrain_arm(config: Config, snapshot: Path, arm: Arm) -> Path:
    """Pre-train on the cosine; returns the checkpoint directory."""
    return stages.pretrain(config, open_snapshot(snapshot), arm)


@task(**RETRY, task_run_name="finetune-{arm.name}")
def finetune_arm(config: Config, snapshot: Path, arm: Arm, stand_in: str | None) -> Path:
    """Fine-tune on LLM feedback and record what was experienced; returns the checkpoint directory.

    ``stand_in`` is the loopback address of rule-sim-v1; a real endpoint's address and key stay in the environment.
    """
    opened = open_snapshot(snapshot)
    endpoint = feedback_endpoint(stand_in)
    with open_database(config.mongo, config.work_path) as database, LabelClient(endpoint, config.llm) as client:
        store = LabelStore(database[config.mongo.collections.labels])
        reward = LLMFeedback(opened, store, client, config.llm)
        checkpoint = stages.finetune(config, opened, arm, reward)
        experiences = ExperienceStore(database[config.mongo.collections.experiences])
        stages.record_experience(checkpoint, opened, experiences)
        return checkpoint


def feedback_endpoint(stand_in: str | None) -> Endpoint:
    """The endpoint of the environment, or the stand-in where the flow has started one."""
    endpoint = rule_sim_endpoint(stand_in) if stand_in else resolve_endpoint()
    assert endpoint is not None, "the flow starts the stand-in where no endpoint is configured"
    return endpoint
