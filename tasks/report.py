"""The night in MLflow, and its report."""

from __future__ import annotations

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
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.counterfactual import Swing
from dynaq.evaluation.graded import read_lists, relevance_table
from dynaq.evaluation.night import Night
from dynaq.evaluation.online import OnlineRun, read_online
from dynaq.evaluation.panel import read_panel
from dynaq.evaluation.report import write_report
from dynaq.evaluation.similarity import SimilarityReached
from dynaq.evaluation.study import Study
from dynaq.evaluation.summary import late_steps, summarise
from dynaq.evaluation.training import label_cost, training_curves_of, training_figure
from dynaq.evaluation.world import OWN
from dynaq.rewards.audit import Audit
from dynaq.rewards.budget import account, amounts, left
from dynaq.tracking.mlflow_tracker import Tracker, flat_params
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


@task(**RETRY)
def start_night(config: Config, name: str) -> str:
    """Open the parent run in MLflow; returns its id."""
    return Tracker(config).start_night(name, flat_params(config), {"code": code_version()})


@task(**RETRY)
def end_night(config: Config, run_id: str, succeeded: bool, seconds: dict[str, float]) -> None:
    """Close the parent run, with the seconds each stage took."""
    tracker = Tracker(config)
    tracker.log_metrics(run_id, {f"seconds_{stage}": value for stage, value in seconds.items()})
    tracker.end_night(run_id, succeeded)


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
def track_night(config: Config, run_id: str, outputs: Outputs, labels: Labelling) -> str | None:
    """Log every contestant and seed in the evaluator's own market as a child run, once, and the night's figures.

    Returns the child run of the challenger that holds its checkpoint; None without a challenger.
    """
    tracker, study = Tracker(config), outputs.study(config)
    children: dict[tuple[str, int], str] = {}
    for path in outputs.online:
        run = read_online(path)
        if run.world.towards == OWN:
            children[run.contestant.kind, run.seed] = _track_run(tracker, config, run_id, outputs, run)
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
    tracker.log_metrics(run_id, figures)
    return children.get(("challenger", config.seed))


def _track_run(tracker: Tracker, config: Config, night: str, outputs: Outputs, run: OnlineRun) -> str:
    """One child run: its figures and curves, and for an agent the checkpoint that it started from; returns its id."""
    contestant = run.contestant
    snapshot, start = open_snapshot(outputs.snapshot), None
    if run.start is not None and contestant.kind in (*WARM_STARTS, "challenger"):
        start = config.work_path / "checkpoints" / run.start
    rewards = run.rewards.mean(axis=1, dtype=np.float64)
    return tracker.log_child(
        night,
        f"{contestant.slug}-s{run.seed}",
        params={
            "contestant": contestant.kind,
            "gamma": contestant.gamma,
            "budget": contestant.labels,
            "seed": run.seed,
        },
        tags={
            "rewards": ", ".join(run.provenance) or "none",
            "snapshot": outputs.snapshot.name,
            "code": code_version(),
        },
        metrics={
            "average_reward": float(rewards.mean()),
            "cumulative_reward": float(rewards.sum()),
            "jump_start": float(rewards[: config.compare.window].mean()),
            "late_performance": float(rewards[late_steps(config.compare)].mean()),
            "regret": float((run.best - run.chances).mean(dtype=np.float64)),
            **{name: float(value) for name, value in run.before.items()},
        },
        curves={f"online_{name}": values for name, values in run.curves.items()}
        | (training_curves_of(start, snapshot) if start else {}),
        directories={"checkpoint": start} if start else {},
    )


@task(**RETRY)
def log_report(config: Config, run_id: str, report: Path) -> None:
    """Add the report's files to the night."""
    Tracker(config).log_report(run_id, report)
