"""Postings and applicants into MongoDB, and their texts to vectors."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.embed import EmbedReport, Range
from dynaq.errors import ConfigError
from flows.alone import alone
from flows.fan_out import fan_out
from tasks.ingest import Side, embed_range, find_changed, load_table, make_market


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
    sides: tuple[Side, ...] = ("jobs", "applicants")
    for side in sides:
        loaded = load_table(settings, side, market)
        log.info(
            "%s: %d read, %d written, %d unchanged, rejected %s",
            side,
            loaded.read,
            loaded.written,
            loaded.unchanged,
            dict(loaded.rejected) or "none",
        )
        if loaded.rejected:
            some = ", ".join(f"row {each['row']} ({each['id']!r}: {each['reason']})" for each in loaded.examples[:3])
            log.warning(
                "%s: %d of %d rows are not used, such as %s", side, sum(loaded.rejected.values()), loaded.read, some
            )
        written, texts, unchanged = _embed(settings, side)
        log.info("%s: %d embedded (%d texts), %d up to date", side, written, texts, unchanged)


def _embed(config: Config, side: Side) -> tuple[int, int, int]:
    """Embed what has changed on one side: documents written, texts embedded, documents that were up to date."""
    ranges, unchanged = find_changed(config, side)
    calls: dict[Range, dict[str, Any]] = {each: {"config": config, "side": side, "only": each} for each in ranges}
    if len(calls) == 1:  # sooner done than a process started
        reports: list[EmbedReport] = [embed_range(**call) for call in calls.values()]
    else:
        reports = list(fan_out(embed_range, calls, config, unit=" commits").values())
    return sum(each.written for each in reports), sum(each.texts for each in reports), unchanged
