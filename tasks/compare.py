"""The panel, online runs of the contestants, and how well pre-training went."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from dynaq.agents.arms import Arm
from dynaq.config import Config
from dynaq.data.connection import open_database
from dynaq.data.snapshot import open_snapshot
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.world import World
from dynaq.evaluation.online import run_online
from dynaq.evaluation.panel import make_panel
from dynaq.evaluation.similarity import SimilarityReached, similarity_reached
from dynaq.rewards.llm_feedback import LLMFeedback
from tasks.labelling import feedback_endpoint, open_labeller, what_is_asked
from tasks.retry import RETRY


@task(**RETRY)
def draw_panel(config: Config, snapshot: Path, stand_in: str | None, account: str, labelled: bool) -> Path:
    """Draw held-out applicants and jobs and collect the training rewards on them; returns the panel's directory.

    ``labelled``: with the LLM's labels, on an account that is no agent's.
    """
    opened = open_snapshot(snapshot)
    if not labelled:
        return make_panel(config, opened, None, {})
    asked = what_is_asked(config, opened, feedback_endpoint(stand_in).provenance)
    asked |= {"values": config.llm.values.model_dump(), "missing": config.llm.max_missing_share}
    with (
        open_database(config.mongo, config.work_path) as database,
        open_labeller(config, opened, database, stand_in, account, share=1.0) as labeller,
    ):
        return make_panel(config, opened, LLMFeedback(opened, labeller, config.llm), asked)


@task(**RETRY, task_run_name="online-{contestant.slug}-s{seed}")
def run_contestant(
    config: Config,
    snapshot: Path,
    panel: Path,
    contestant: Contestant,
    worlds: list[World],
    seed: int,
    start: Path | None,
) -> list[Path]:
    """Let a contestant learn online in each of the worlds; returns its result directories."""
    opened = open_snapshot(snapshot)
    return [run_online(config, opened, panel, contestant, world, seed, start) for world in worlds]


@task(**RETRY, task_run_name="similarity-{arm.name}")
def measure_similarity(config: Config, snapshot: Path, arm: Arm, checkpoint: Path) -> SimilarityReached:
    """How much of the best possible cosine a pre-trained agent reaches on held-out applicants."""
    return similarity_reached(config, open_snapshot(snapshot), arm, checkpoint)
