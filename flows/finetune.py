"""Fine-tuning on LLM feedback."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from dynaq.agents.arms import Arm, arms
from dynaq.config_file import load_config
from dynaq.data.connection import open_database
from dynaq.llm.endpoint import resolve_endpoint
from dynaq.llm.rule_sim.process import rule_sim_server
from flows.fan_out import fan_out
from flows.night import find_snapshot
from tasks.train import finetune_arm


@flow
def finetune(
    config: str = "configs/demo.yaml", overrides: dict[str, Any] | None = None, snapshot: Path | None = None
) -> dict[str, Path]:
    """Fine-tune ``llm`` and ``hybrid`` for every seed and discount; returns checkpoint directories by arm.

    Without an LLM in the environment the stand-in rule-sim-v1 is started and said so; it is never a fall-back.
    """
    settings = load_config(config, overrides)
    snapshot = find_snapshot(settings, snapshot)
    endpoint = resolve_endpoint()
    log = get_run_logger()
    if endpoint is None:
        log.warning("No LLM is configured: labels come from the rule-based stand-in rule-sim-v1, not from an LLM")
    else:
        log.info("labels come from %s", endpoint.provenance)
    # One connection here keeps an embedded mongod up while the processes come and go.
    with (
        rule_sim_server() if endpoint is None else nullcontext() as stand_in,
        open_database(settings.mongo, settings.work_path),
    ):
        asked = arms(settings, "llm", "hybrid")
        log.info(
            "%d agents with a budget of %d labels each: at most %d calls; labels already stored are free",
            len(asked),
            settings.finetune.labels,
            len(asked) * settings.finetune.labels,
        )
        calls: dict[Arm, dict[str, Any]] = {
            arm: {"config": settings, "snapshot": snapshot, "arm": arm, "stand_in": stand_in} for arm in asked
        }
        return {arm.name: path for arm, path in fan_out(finetune_arm, calls, settings.processes).items()}
