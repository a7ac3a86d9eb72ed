"""Judges beside the market: graded lists, another LLM, and texts with one thing changed."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import task

from dynaq.config import Config
from dynaq.data.connection import open_database
from dynaq.data.journal import Journal
from dynaq.data.labels import LabelStore
from dynaq.data.ledger import Ledger
from dynaq.data.snapshot import open_snapshot
from dynaq.errors import ConfigError, InputError, LabelError, MissingDependencyError, TransientError
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.fairness.counterfactual import Swing
from dynaq.evaluation.fairness.fairness import changed_states, swings
from dynaq.evaluation.judges.graded import lists_from_file, lists_from_judge, rank_graded
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import resolve_judge
from dynaq.rewards.budget import Budget
from dynaq.rewards.judge import ACCOUNT, judge_settings
from dynaq.rewards.labeller import Labeller
from tasks.retry import RETRY


@task(**RETRY)
def grade_lists(config: Config, snapshot: Path) -> list[Path]:
    """Lists to be ranked: of the file of ``relevance``, and of the judge; returns their directories."""
    opened, log = open_snapshot(snapshot), logging.getLogger("dynaq")
    found: list[Path] = []
    if config.relevance:
        found.append(lists_from_file(config, opened))
    if config.judge and (endpoint := resolve_judge()):
        settings = judge_settings(config.llm)
        with (
            open_database(config.mongo, config.work_path) as database,
            LabelClient(endpoint, settings, share=1.0) as client,
        ):
            store = LabelStore(database[config.mongo.collections.labels])
            ledger = Ledger(database[config.mongo.collections.spending], f"{ACCOUNT} {endpoint.provenance}")
            journal = Journal(config.work_path / "journal", store, ledger)
            journal.redo()
            labeller = Labeller(store, client, settings, Budget(settings, ledger), journal)
            try:
                found.append(lists_from_judge(config, opened, labeller))
            # A second opinion is not worth a night.
            except (ConfigError, InputError, LabelError, TransientError) as error:
                log.warning("the judge was not heard: %s", error)
    elif config.judge:
        log.warning("judge is configured, but no DYNAQ_JUDGE_MODEL is set: nothing was judged")
    return found


@task(**RETRY, task_run_name="rank-{contestant.slug}-s{seed}")
def rank_lists(
    config: Config,
    snapshot: Path,
    panel: Path,
    lists: list[Path],
    contestant: Contestant,
    seed: int,
    start: Path | None,
) -> list[Path]:
    """Rank every list as a contestant would at launch; returns a result directory for each of the lists."""
    opened = open_snapshot(snapshot)
    return [rank_graded(config, opened, panel, each, contestant, seed, start) for each in lists]


@task(**RETRY)
def measure_fairness(
    config: Config, snapshot: Path, panel: Path, starts: dict[Contestant, Path | None]
) -> list[tuple[str, str, Swing]]:
    """What names and gendered words change; nothing, and a warning, where the texts cannot be embedded again."""
    from dynaq.embedding.minilm import MiniLM

    opened, log = open_snapshot(snapshot), logging.getLogger("dynaq")
    if config.agent.history is not None:
        log.warning("fairness is not measured: a counterfactual state with a history is not defined")
        return []
    try:
        return swings(config, opened, panel, changed_states(config, opened, panel, MiniLM()), starts)
    except (InputError, MissingDependencyError) as error:
        log.warning("fairness is not measured: %s", error)
        return []
