"""What every task that asks an LLM shares, and the audit of its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact

from dynaq.artifacts import finished, inputs_key, publish, training_code
from dynaq.config import Config
from dynaq.data.connection import MongoDatabase, open_database
from dynaq.data.journal import Journal
from dynaq.data.labels import LabelStore
from dynaq.data.ledger import Ledger, Spent
from dynaq.data.snapshot import Snapshot, open_snapshot
from dynaq.errors import InputError
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import Endpoint, resolve_endpoint, rule_sim_endpoint
from dynaq.rewards.audit import Audit, audit
from dynaq.rewards.budget import Budget
from dynaq.rewards.canary_check import canary_table, measure_canaries
from dynaq.rewards.labeller import Labeller
from tasks.retry import RETRY


@contextmanager
def open_labeller(
    config: Config, snapshot: Snapshot, database: MongoDatabase, stand_in: str | None, account: str, share: float
) -> Iterator[Labeller]:
    """Labels from the store or the server, charged to an account.

    ``stand_in`` is the loopback address of rule-sim-v1; a real endpoint's address and key stay in the environment.
    ``share`` of the provider's rates is this task's.
    """
    endpoint = feedback_endpoint(stand_in)
    store = LabelStore(database[config.mongo.collections.labels])
    ledger = open_ledger(config, snapshot, database, endpoint.provenance, account)
    journal = Journal(config.work_path / "journal", store, ledger)
    journal.redo()
    with LabelClient(endpoint, config.llm, share) as client:
        yield Labeller(store, client, config.llm, Budget(config.llm, ledger), journal)


def feedback_endpoint(stand_in: str | None) -> Endpoint:
    """The endpoint of the environment, or the stand-in where the flow has started one."""
    endpoint = rule_sim_endpoint(stand_in) if stand_in else resolve_endpoint()
    assert endpoint is not None, "the flow starts the stand-in where no endpoint is configured"
    return endpoint


def open_ledger(config: Config, snapshot: Snapshot, database: MongoDatabase, provenance: str, account: str) -> Ledger:
    """What is paid on a snapshot: by a day's nights together, so that one goes on where another stopped."""
    key = inputs_key(name=config.name, account=account, asked=what_is_asked(config, snapshot, provenance))
    return Ledger(database[config.mongo.collections.spending], key)


def today() -> str:
    """The day that budgets and audits belong to, UTC, as 2026-11-21; a night has one of its own."""
    return datetime.now(UTC).date().isoformat()


def named_day(day: str) -> str:
    """A day that somebody names, written as ``today`` writes it: directories and accounts are called by it.

    Raises:
        InputError: it is none.
    """
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise InputError(f"day is {day!r}, it must be a date such as 2026-11-21") from None


@task(**RETRY)
def reach_database(config: Config) -> None:
    """Wait for MongoDB, as patiently as every task does that works with it."""
    with open_database(config.mongo, config.work_path):
        pass


@task(**RETRY)
def paid_so_far(config: Config, snapshot: Path, provenance: str, day: str) -> Spent:
    """What is paid on a snapshot on a day."""
    with open_database(config.mongo, config.work_path) as database:
        return open_ledger(config, open_snapshot(snapshot), database, provenance, day).total()


@task(**RETRY)
def audit_labels(config: Config, snapshot: Path, stand_in: str | None, day: str) -> Audit:
    """Ask the frozen pairs again, once a day, and write down what that shows."""
    opened = open_snapshot(snapshot)
    target = _audits(config, opened, feedback_endpoint(stand_in).provenance) / day
    if not finished(target, config.work_path):
        with (
            open_database(config.mongo, config.work_path) as database,
            open_labeller(config, opened, database, stand_in, day, share=1.0) as labeller,
        ):
            found = audit(opened, labeller, config.llm, date.fromisoformat(day))
        with publish(target) as directory:
            (directory / "audit.json").write_text(json.dumps(found.as_json(), indent=2, allow_nan=False) + "\n")
    return Audit.read(target / "audit.json")


@task(**RETRY)
def check_canaries(config: Config, snapshot: Path, stand_in: str | None, pairs: int) -> str:
    """Measure what injected orders do, with the prompt's defences and without; returns a Markdown table."""
    account = f"canaries {today()}"  # a trial must not use up the budget of a night
    opened = open_snapshot(snapshot)
    bearing = config.llm.model_copy(update={"max_missing_share": 1.0})  # who refuses an order has passed the trial
    config = config.model_copy(update={"llm": bearing})
    with (
        open_database(config.mongo, config.work_path) as database,
        open_labeller(config, opened, database, stand_in, account, share=1.0) as labeller,
    ):
        defended, bare = (measure_canaries(opened, labeller, config.llm, pairs, fenced) for fenced in (True, False))
    table = canary_table(defended, bare, feedback_endpoint(stand_in).provenance)
    create_markdown_artifact(table, key="canaries", description=config.name)
    return table


def latest_audit(config: Config, snapshot: Snapshot, provenance: str, day: str) -> Audit | None:
    """The last audit of these labels up to a day; none where there has been none, or none is configured.

    Where a clock went back, or was wrong, there are audits of days to come: they are not this night's.
    """
    there = sorted(_audits(config, snapshot, provenance).glob("*/audit.json"))
    found = [path for path in there if path.parent.name <= day]
    return Audit.read(found[-1]) if found and config.llm.audit.pairs else None


def _audits(config: Config, snapshot: Snapshot, provenance: str) -> Path:
    key = inputs_key(
        asked=what_is_asked(config, snapshot, provenance),
        audit=config.llm.audit.model_dump(),
        values=config.llm.values.model_dump(),
        code=training_code(),
    )
    return config.work_path / "audits" / key


def what_is_asked(config: Config, snapshot: Snapshot, provenance: str) -> dict[str, Any]:
    """Everything that decides an answer but the pair, for the names of results that are made of answers."""
    how = {"answer", "revision", "temperature", "samples", "max_field_chars"}
    return {
        "snapshot": snapshot.manifest.digest,
        "provenance": provenance,
        **config.llm.model_dump(include=how),
    }
