"""Postings and applicants into MongoDB, and their texts to vectors."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger

from dynaq.config_file import load_config
from dynaq.errors import ConfigError
from flows.alone import alone
from tasks.ingest import embed_side, load_table, make_market


@flow
@alone
def ingest(config: str = "configs/demo.yaml", overrides: dict[str, Any] | None = None) -> None:
    """Read the configured tables, or generate the demo market, and embed what has changed.

    Args:
        config: a YAML file under configs/, or one of yours that extends configs/base.yaml.
        overrides: knobs to change for this run, by dotted key, as {"agent.gamma": 0.5}.
    """
    log = get_run_logger()
    settings = load_config(config, overrides)
    if settings.market is None and settings.ingest is None:
        raise ConfigError(f"{config} has neither ingest tables nor a market to generate: nothing to ingest")
    market = make_market(settings) if settings.market else None
    if market:
        log.warning("The postings and applicants are GENERATED; figures say nothing about a real platform")
    for side in ("jobs", "applicants"):
        loaded = load_table(settings, side, market)
        log.info(
            "%s: %d read, %d written, %d unchanged, rejected %s",
            side,
            loaded.read,
            loaded.written,
            loaded.unchanged,
            dict(loaded.rejected) or "none",
        )
        embedded = embed_side(settings, side)
        log.info(
            "%s: %d embedded (%d texts), %d up to date", side, embedded.written, embedded.texts, embedded.unchanged
        )
