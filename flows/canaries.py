"""What orders hidden in a posting or a resume do to the LLM's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from dynaq.config_file import load_config
from dynaq.llm.canaries import CANARIES
from flows.night import find_snapshot, stand_in_server
from tasks.labelling import check_canaries


@flow
def canaries(
    config: str = "configs/demo.yaml", overrides: dict[str, Any] | None = None, snapshot: Path | None = None
) -> str:
    """Ask about the frozen pairs of the audit, clean and with each canary; returns a Markdown table of the changes.

    To be run before a model or a prompt is trusted; it asks some forty times as much as an audit.

    Args:
        config: a YAML file under configs/, or one of yours that extends configs/base.yaml.
        overrides: knobs to change for this run, by dotted key, as {"agent.gamma": 0.5}.
        snapshot: directory to work on; the latest one if not given.
    """
    settings = load_config(config, overrides)
    snapshot = find_snapshot(settings, snapshot)
    pairs = max(2, settings.llm.audit.pairs)
    get_run_logger().info("at most %d calls; labels already stored are free", pairs * 2 * (1 + len(CANARIES)))
    with stand_in_server() as stand_in:
        if stand_in:
            get_run_logger().warning("No LLM is configured: the rule-based stand-in rule-sim-v1 is measured")
        return check_canaries(settings, snapshot, stand_in, pairs)
