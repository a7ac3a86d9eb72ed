"""A whole night: ingest, extract, pretrain, finetune, compare."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from dynaq.agents.stages import check_pool
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.connection import open_database
from dynaq.data.snapshot import Snapshot, open_snapshot
from dynaq.errors import ConfigError, TransientError
from dynaq.evaluation.judges.graded import lists_from_file
from dynaq.evaluation.panel import check_panel
from dynaq.llm.endpoint import resolve_endpoint
from dynaq.llm.models import list_models
from flows.alone import alone
from flows.compare import compare_arms
from flows.extract import extract
from flows.finetune import finetune
from flows.ingest import ingest
from flows.night import day_of_the_night, mlflow_night, remove_old
from flows.pretrain import pretrain
from tasks.labelling import reach_database
from tasks.retry import give_up_unless_transient


@flow(retries=2, retry_delay_seconds=600)
@give_up_unless_transient
@alone
def nightly(config: str = "configs/demo.yaml", overrides: dict[str, Any] | None = None) -> Path:
    """Run every stage on what MongoDB holds tonight; returns the report's directory.

    What an earlier or interrupted night has finished for the same inputs is reused, unless ``overrides`` give another
    text for ``fresh``. What no recent night has used is removed in the end. A deployed night that a server did not
    answer, or that lost a worker, is tried again twice, ten minutes apart; its day stays that of its beginning.

    Args:
        config: a YAML file under configs/, or one of yours that extends configs/base.yaml.
        overrides: knobs to change for this run, by dotted key, as {"agent.gamma": 0.5}.
    """
    settings, since = load_config(config, overrides), time.time()
    _listen_to_llm(settings)
    reach_database(settings)
    # An embedded mongod stays up between the stages.
    with (
        day_of_the_night(settings) as day,
        open_database(settings.mongo, settings.work_path),
        mlflow_night(settings, f"nightly {settings.name}") as night,
    ):
        if settings.market or settings.ingest:
            with night.timed("ingest"):
                ingest(config, overrides)
        with night.timed("extract"):
            snapshot = extract(config, overrides)
        _check(settings, open_snapshot(snapshot))
        with night.timed("pretrain"):
            pretrain(config, overrides, snapshot)
        with night.timed("finetune"):
            finetune(config, overrides, snapshot, day)
        report = compare_arms(settings, snapshot, night, day)
    remove_old(settings, since)
    return report


def _listen_to_llm(config: Config) -> None:
    """Warn, before hours of pre-training, of an LLM that does not answer or takes no key: by then it may.

    Raises:
        ConfigError: half of what names an LLM is set.
    """
    endpoint = resolve_endpoint()
    if endpoint is None or config.llm.replay_only:
        return
    try:
        list_models(endpoint)
    except (ConfigError, TransientError) as error:
        get_run_logger().warning("%s; after pre-training it is asked for all labels that are not stored", error)


def _check(config: Config, snapshot: Snapshot) -> None:
    """Raise InputError for what this snapshot is too small for, before hours of training and not after them."""
    check_panel(config, snapshot)
    check_pool(config, snapshot)
    if config.relevance:
        lists_from_file(config, snapshot)
