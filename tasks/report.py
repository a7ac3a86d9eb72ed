"""The night in MLflow, and its report."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from prefect import task
from prefect.artifacts import create_markdown_artifact

from dynaq.agents.arms import WARM_STARTS, Arm
from dynaq.artifacts import code_version, publish
from dynaq.config import Config
from dynaq.data.ledger import Spent
from dynaq.data.snapshot import open_snapshot
from dynaq.errors import TransientError
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.fairness.counterfactual import Swing
from dynaq.evaluation.judges.graded import read_lists, relevance_table
from dynaq.evaluation.market.world import OWN
from dynaq.evaluation.online import OnlineRun, read_online
from dynaq.evaluation.panel import read_panel
from dynaq.evaluation.report.night import Night
from dynaq.evaluation.report.report import write_report
from dynaq.evaluation.report.training import label_cost, training_curves_of, training_figure
from dynaq.evaluation.similarity import SimilarityReached
from dynaq.evaluation.study.study import Study
from dynaq.evaluation.study.summary import summarise
from dynaq.rewards.audit import Audit
from dynaq.rewards.budget import account, amounts, left
from dynaq.tracking.checkpoint import read_manifest
from dynaq.tracking.mlflow_tracker import RunRecord
from dynaq.tracking.spool import deliver, put, waiting
from tasks.retry import RETRY


@dataclass(frozen=True)
class Labelling:
    """Whose labels, what they have cost on this snapshot, and whether they can be trusted."""

    source: str
    spent: Spent
    audit: Audit | None


@dataclass(frozen=True)
class Outputs:
    """What the stages of a night have written."""

    snapshot: Path
    panel: Path
    checkpoints: dict[Arm, Path]
    online: list[Path]
    graded: list[tuple[Path, dict[Contestant, list[Path]]]]
    fairness: list[tuple[str, str, Swing]]
    similarity: list[SimilarityReached]

    def study(self, config: Config) -> Study:
        """Read the runs back and put them side by side."""
        return summarise([read_online(path) for path in self.online], config.compare, config.agent.gamma)


@task
def deliver_spool(config: Config) -> None:
    """Log in MLflow what this night and earlier ones have written for it; what it cannot take now waits."""
    try:
        deliver(config)
    except TransientError as error:
        what = f"{len(waiting(config))} records of runs wait in {config.work_path / 'spool'}"
        logging.getLogger("dynaq").warning("%s: %s for the next delivery", error, what)


@task(**RETRY)
def write_night(config: Config, outputs: Outputs, labels: Labelling, champion: str, seconds: dict[str, float]) -> Path:
    """Compare everybody and write the report; returns its directory, named by the time."""
    snapshot = open_snapshot(outputs.snapshot)
    night = Night(
        config=config,
        manifest=snapshot.manifest,
        study=outputs.study(config),
        similarity=outputs.similarity,
        training=training_figure(outputs.checkpoints, snapshot, config.agent.gamma),
        label_source=labels.source,
        label_cost=label_cost(outputs.checkpoints, snapshot),
        account=account(labels.spent, config.llm),
        audit=labels.audit.sentence() if labels.audit else "",
        trusted=labels.audit is None or labels.audit.passed,
        seconds=seconds,
        relevance={read_lists(lists).title: relevance_table(lists, found) for lists, found in outputs.graded},
        fairness=outputs.fairness,
        champion=champion,
        missing=read_panel(outputs.panel).missing,
    )
    target = config.work_path / "reports" / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    with publish(target) as directory:
        write_report(night, directory)
    return target


@task(**RETRY)
def show_night(config: Config, report: Path) -> None:
    """Show the report's words in Prefect, which has no place for pictures."""
    words = re.sub(r"!\[.*\]\(.*\)\n", "", (report / "report.md").read_text())
    create_markdown_artifact(words, key="comparison", description=config.name)


@task(**RETRY)
def track_night(
    config: Config, night: RunRecord, outputs: Outputs, labels: Labelling, winner: Contestant | None
) -> str | None:
    """Spool every contestant and seed in the evaluator's own market as a child run, and the night's figures.

    Returns the key of the winner's run that holds the challenger's checkpoint; None without a winner.
    """
    study, keys = outputs.study(config), dict[tuple[Contestant | None, int], str]()
    for path in outputs.online:
        run = read_online(path)
        if run.world.towards == OWN:
            challenges = (run.contestant, run.seed) == (winner, config.seed)
            record = _run_record(config, night, outputs, run, challenges=challenges)
            put(config, record)
            keys[run.contestant, run.seed] = record.key
    figures = {
        f"{row.contestant.slug}_{name}": value
        for row in study.rows
        for name, value in (
            ("average_reward", row.average.mean),
            ("late", row.late.mean),
            ("gain", row.gain.difference.mean if row.gain else 0.0),
        )
    }
    figures["cosine_share_of_best"] = float(np.mean([each.share for each in outputs.similarity]))
    figures |= {f"agreement_{name}": value for name, value in study.agreement.items()}
    figures |= {f"spent_{name}": value for name, value in amounts(labels.spent, config.llm.price).items()}
    figures |= {f"left_{name}": value for name, value in left(labels.spent, config.llm).items()}
    figures |= labels.audit.metrics() if labels.audit else {}
    put(config, night.model_copy(update={"metrics": figures}))
    return keys.get((winner, config.seed))


def _run_record(config: Config, night: RunRecord, outputs: Outputs, run: OnlineRun, *, challenges: bool) -> RunRecord:
    """Of one contestant and seed: figures, curves, which checkpoint it started from; and the one that challenges."""
    contestant = run.contestant
    snapshot, start = open_snapshot(outputs.snapshot), None
    if run.start is not None and contestant.kind in WARM_STARTS:
        start = config.work_path / "checkpoints" / run.start
    rewards = run.rewards.mean(axis=1, dtype=np.float64)
    name = f"{contestant.slug}-s{run.seed}"
    return RunRecord(
        key=f"{night.key}/{name}",
        name=name,
        started=night.started,
        status="FINISHED",
        params={
            "contestant": contestant.kind,
            "gamma": str(contestant.gamma),
            "budget": str(contestant.labels),
            "seed": str(run.seed),
        },
        tags={
            "rewards": ", ".join(run.provenance) or "none",
            "snapshot": outputs.snapshot.name,
            "code": code_version(),
            **({"checkpoint": start.name, "weights": read_manifest(start).weights} if start else {}),
        },
        metrics={
            "average_reward": float(rewards.mean()),
            "cumulative_reward": float(rewards.sum()),
            "jump_start": float(rewards[: config.compare.window].mean()),
            "late_performance": float(rewards[-config.compare.late_steps :].mean()),
            "regret": float((run.best - run.chances).mean(dtype=np.float64)),
            **{name: float(value) for name, value in run.before.items()},
        },
        curves={f"online_{name}": values for name, values in run.curves.items()}
        | (training_curves_of(start, snapshot) if start else {}),
        # The others lie in the working directory, and each is some megabytes a night.
        artifacts={"checkpoint": start} if start and challenges else {},
    )
