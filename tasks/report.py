"""The night in MLflow, and its report."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from prefect import task
from prefect.artifacts import create_markdown_artifact

from dynaq.agents.arms import Arm
from dynaq.artifacts import code_version, publish
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot, open_snapshot
from dynaq.evaluation.comparison import OnlineRun, read_online, read_references
from dynaq.evaluation.metrics import Curve, learning_curve
from dynaq.evaluation.report import Night, write_report
from dynaq.evaluation.similarity import SimilarityReached
from dynaq.evaluation.summary import Comparison, summarise
from dynaq.tracking.checkpoint import load_checkpoint
from dynaq.tracking.mlflow_tracker import Tracker, flat_params
from tasks.retry import RETRY


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
def write_night(
    config: Config,
    snapshot: Path,
    checkpoints: dict[Arm, Path],
    online: dict[Arm, Path],
    references: dict[int, Path],
    similarity: list[SimilarityReached],
    label_source: str,
    seconds: dict[str, float],
) -> Path:
    """Compare the arms and write the report; returns its directory."""
    opened = open_snapshot(snapshot)
    comparison = compare_runs(config, online, references)
    night = Night(
        config=config,
        manifest=opened.manifest,
        comparison=comparison,
        similarity=similarity,
        training=training_figure(config, opened, checkpoints),
        label_source=label_source,
        label_cost=label_cost(opened, checkpoints),
        seconds=seconds,
    )
    target = config.work_path / "reports" / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    with publish(target) as directory:
        write_report(night, directory)
    create_markdown_artifact((target / "report.md").read_text(), key="comparison", description=config.name)
    return target


def compare_runs(config: Config, online: dict[Arm, Path], references: dict[int, Path]) -> Comparison:
    """Read the runs back and put them side by side."""
    runs = [read_online(path) for path in online.values()]
    return summarise(runs, {seed: read_references(path) for seed, path in references.items()}, config.compare)


def training_figure(config: Config, snapshot: Snapshot, checkpoints: dict[Arm, Path]) -> dict[str, dict[str, Curve]]:
    """Reward and loss of each training stage over its steps, at the configured discount, mean over seeds."""
    curves: dict[str, list[dict[str, list[float | None]]]] = {}
    for arm, path in checkpoints.items():
        if arm.gamma == config.agent.gamma:
            curves.setdefault(arm.agent, []).append(load_checkpoint(path, snapshot.manifest.digest).curves)
    return {
        label: {agent: _mean_curve([seed[metric] for seed in seeds]) for agent, seeds in curves.items()}
        for label, metric in (("training reward per job shown", "reward"), ("TD loss", "q_loss"))
    }


def _mean_curve(seeds: list[list[float | None]]) -> Curve:
    values = np.array(seeds, dtype=np.float64)  # None becomes NaN
    defined = ~np.isnan(values).any(axis=0)
    curve = learning_curve(values[:, defined], window=max(1, values.shape[1] // 20))
    return Curve(np.flatnonzero(defined) + 1, curve.mean, curve.low, curve.high)


def label_cost(snapshot: Snapshot, checkpoints: dict[Arm, Path]) -> dict[str, int]:
    """What the labels of all agents and seeds cost together."""
    total: Counter[str] = Counter()
    for path in checkpoints.values():
        manifest = load_checkpoint(path, snapshot.manifest.digest).manifest
        total.update(manifest.cost)
        total["labels_used"] += manifest.labels
    return dict(total)


@task(**RETRY)
def track_night(
    config: Config,
    run_id: str,
    snapshot: Path,
    checkpoints: dict[Arm, Path],
    online: dict[Arm, Path],
    references: dict[int, Path],
    similarity: list[SimilarityReached],
    report: Path,
) -> None:
    """Log every (agent, discount, seed) as a child run, and the report to the parent run."""
    tracker = Tracker(config)
    for arm, path in online.items():
        run, checkpoint = read_online(path), checkpoints.get(arm)
        tracker.log_child(
            run_id,
            arm.name,
            params={"agent": arm.agent, "gamma": arm.gamma, "seed": arm.seed},
            tags={"rewards": ", ".join(run.provenance) or "none", "snapshot": snapshot.name, "code": code_version()},
            metrics=_final_figures(run, config),
            curves=_all_curves(run, checkpoint, open_snapshot(snapshot)),
            directories={"checkpoint": checkpoint} if checkpoint else {},
        )
    comparison = compare_runs(config, online, references)
    figures = {
        f"{arm.agent}_g{arm.gamma:g}_{name}": value
        for arm in comparison.arms
        for name, value in (("average_reward", arm.average.mean), ("late", arm.late.mean), ("gain", arm.gain.mean))
    }
    figures["cosine_share_of_best"] = float(np.mean([each.share for each in similarity]))
    tracker.log_metrics(run_id, figures)
    tracker.log_report(run_id, report)


def _final_figures(run: OnlineRun, config: Config) -> dict[str, float]:
    late = -max(1, round(config.compare.late_share * len(run.rewards)))
    return {
        "average_reward": float(run.rewards.mean()),
        "late_performance": float(run.rewards[late:].mean()),
        "cumulative_reward": float(run.rewards.mean(axis=1).sum()),
        "labels": float(run.labels),
    }


def _all_curves(run: OnlineRun, checkpoint: Path | None, snapshot: Snapshot) -> dict[str, list[float | None]]:
    curves = {f"online_{name}": values for name, values in run.curves.items()}
    if checkpoint is not None:
        trained = load_checkpoint(checkpoint, snapshot.manifest.digest).curves
        curves |= {f"training_{name}": values for name, values in trained.items()}
    return curves
