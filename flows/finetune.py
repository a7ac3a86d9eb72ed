"""Fine-tuning on LLM feedback."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from dynaq.agents.arms import Arm, arms
from dynaq.agents.stages import check_pool, finetuned_paths
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.connection import open_database
from dynaq.data.snapshot import Snapshot, open_snapshot
from dynaq.errors import LabelError
from dynaq.llm.endpoint import resolve_endpoint
from dynaq.rewards.audit_pairs import human_labels
from dynaq.rewards.budget import account, forecast
from dynaq.rewards.llm_feedback import reward_name
from flows.alone import alone
from flows.fan_out import fan_out
from flows.night import find_snapshot, say_reused, stand_in_server
from tasks.labelling import (
    audit_labels,
    feedback_endpoint,
    latest_audit,
    named_day,
    open_ledger,
    paid_so_far,
    reach_database,
    today,
)
from tasks.train import finetune_arm


@flow
@alone
def finetune(
    config: str = "configs/demo.yaml",
    overrides: dict[str, Any] | None = None,
    snapshot: Path | None = None,
    day: str | None = None,
) -> dict[str, list[Path]]:
    """Fine-tune ``llm`` and ``hybrid`` for every seed and discount; returns checkpoint directories by arm.

    Without an LLM in the environment the stand-in rule-sim-v1 is started and said so; it is never a fall-back.
    Where the audit finds labels that cannot be trusted and the gate says skip, nothing is trained.

    Args:
        config: a YAML file under configs/, or one of yours that extends configs/base.yaml.
        overrides: knobs to change for this run, by dotted key, as {"agent.gamma": 0.5}.
        snapshot: directory to work on; the latest one if not given.
        day: whose budget pays, as 2026-11-21; this one, UTC, if not given.
    """
    settings, since = load_config(config, overrides), time.time()
    day = named_day(day) if day else today()
    snapshot = find_snapshot(settings, snapshot)
    opened = open_snapshot(snapshot)
    check_pool(settings, opened)
    endpoint, log = resolve_endpoint(), get_run_logger()
    if endpoint is None:
        log.warning("No LLM is configured: labels come from the rule-based stand-in rule-sim-v1, not from an LLM")
    else:
        log.info("labels come from %s", endpoint.provenance)
    reach_database(settings)
    # One connection here keeps an embedded mongod up while the processes come and go.
    with (
        stand_in_server() as stand_in,
        open_database(settings.mongo, settings.work_path) as database,
    ):
        provenance = feedback_endpoint(stand_in).provenance
        ledger = open_ledger(settings, opened, database, provenance, day)
        asked = arms(settings, "llm", "hybrid")
        log.info(_forecast(settings, opened, len(asked)))
        paid = paid_so_far(settings, snapshot, provenance, day)
        log.info("paid on this snapshot today: %s", account(paid, settings.llm))
        weight = _weight(settings, opened, stand_in, day)
        if weight == 0:
            return {}
        calls: dict[Arm, dict[str, Any]] = {
            arm: {
                "config": settings,
                "snapshot": snapshot,
                "arm": arm,
                "stand_in": stand_in,
                "weight": weight,
                "day": day,
            }
            for arm in asked
        }
        paths = fan_out(
            finetune_arm,
            calls,
            settings,
            results=lambda arm: finetuned_paths(settings, opened, arm, reward_name(provenance), weight),
            account=lambda: account(ledger.total(), settings.llm),
        )
        say_reused("finetune", since, {"checkpoints": [path for found in paths.values() for path in found]})
        return {arm.name: found for arm, found in paths.items()}


def _forecast(config: Config, snapshot: Snapshot, agents: int) -> str:
    """What may be paid at most, in one sentence."""
    audit = config.llm.audit
    people = len(human_labels(snapshot, audit.human)) if audit.human else 0
    questions = agents * config.finetune.labels * config.llm.samples.most + 2 * audit.pairs + people
    return (
        f"{agents} agents with a budget of {config.finetune.labels} labels each, and the audit: at most"
        f" {forecast(snapshot, config.llm, questions)}; labels already stored are free"
    )


def _weight(config: Config, snapshot: Snapshot, stand_in: str | None, day: str) -> float:
    """How far the audit lets labels count; in full without one."""
    log = get_run_logger()
    if config.llm.audit.pairs == 0:
        return 1.0
    if config.llm.replay_only:
        found = latest_audit(config, snapshot, feedback_endpoint(stand_in).provenance, day)
    else:
        found = audit_labels(config, snapshot.path, stand_in, day)
    if found is None:
        log.warning("llm.replay_only: no audit of these labels has ever been made")
        return 1.0
    if not found.passed and config.llm.audit.gate.below == "stop":
        raise LabelError(found.verdict)
    (log.info if found.passed else log.warning)(found.verdict)
    if found.drifted:
        log.warning(
            "the LLM's mean reward for the frozen pairs has moved by %+.3f since they were first asked", found.change
        )
    return found.weight
