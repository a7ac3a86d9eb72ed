"""The night in MLflow, and its report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from prefect import task
from prefect.artifacts import create_markdown_artifact

from dynaq.agents.arms import Arm
from dynaq.artifacts import code_version, publish
from dynaq.config import Config
from dynaq.data.ledger import Spent
from dynaq.data.snapshot import open_snapshot
from dynaq.evaluation.comparison import read_online, read_references
from dynaq.evaluation.report import Night, write_report
from dynaq.evaluation.similarity import SimilarityReached
from dynaq.evaluation.summary import Comparison, summarise
from dynaq.evaluation.training import label_cost, training_curves_of, training_figure
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
    checkpoints: dict[Arm, Path]
    online: dict[Arm, Path]
    references: dict[int, Path]
    similarity: list[SimilarityReached]

    def compare(self, config: Config) -> Comparison:
        """Read the runs back and put them side by side."""
        runs = [read_online(path) for path in self.online.values()]
        references = {seed: read_references(path) for seed, path in self.references.items()}
        return summarise(runs, references, config.compare)


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
def write_night(config: Config, outputs: Outputs, labels: Labelling, seconds: dict[str, float]) -> Path:
    """Compare the arms and write the report; returns its directory, named by the time."""
    snapshot = open_snapshot(outputs.snapshot)
    night = Night(
        config=config,
        manifest=snapshot.manifest,
        comparison=outputs.compare(config),
        similarity=outputs.similarity,
        training=training_figure(outputs.checkpoints, snapshot, config.agent.gamma),
        label_source=labels.source,
        label_cost=label_cost(outputs.checkpoints, snapshot),
        account=account(labels.spent, config.llm),
        audit=labels.audit.sentence() if labels.audit else "",
        trusted=labels.audit is None or labels.audit.passed,
        seconds=seconds,
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
def track_night(config: Config, run_id: str, outputs: Outputs, labels: Labelling, report: Path) -> None:
    """Log every (agent, discount, seed) as a child run, once, and the report to the parent run."""
    tracker, snapshot = Tracker(config), open_snapshot(outputs.snapshot)
    comparison = outputs.compare(config)
    rows = {(arm.agent, arm.gamma): arm.metrics for arm in comparison.arms}
    for arm, path in outputs.online.items():
        run, checkpoint = read_online(path), outputs.checkpoints.get(arm)
        metrics, seed = rows[arm.agent, arm.gamma], sorted(outputs.references).index(arm.seed)
        tracker.log_child(
            run_id,
            arm.name,
            params={"agent": arm.agent, "gamma": arm.gamma, "seed": arm.seed},
            tags={
                "rewards": ", ".join(run.provenance) or "none",
                "snapshot": outputs.snapshot.name,
                "code": code_version(),
            },
            metrics={
                "average_reward": float(metrics.average_reward[seed]),
                "cumulative_reward": float(metrics.cumulative_reward[seed]),
                "jump_start": float(metrics.jump_start[seed]),
                "late_performance": float(metrics.late_performance[seed]),
                "labels": float(run.labels),
            },
            curves={f"online_{name}": values for name, values in run.curves.items()}
            | (training_curves_of(checkpoint, snapshot) if checkpoint else {}),
            directories={"checkpoint": checkpoint} if checkpoint else {},
        )
    figures = {
        f"{arm.agent}_g{arm.gamma:g}_{name}": value
        for arm in comparison.arms
        for name, value in (("average_reward", arm.average.mean), ("late", arm.late.mean), ("gain", arm.gain.mean))
    }
    figures["cosine_share_of_best"] = float(np.mean([each.share for each in outputs.similarity]))
    figures |= {f"spent_{name}": value for name, value in amounts(labels.spent, config.llm.price).items()}
    figures |= {f"left_{name}": value for name, value in left(labels.spent, config.llm).items()}
    figures |= labels.audit.metrics() if labels.audit else {}
    tracker.log_metrics(run_id, figures)
    tracker.log_report(run_id, report)
