"""What the training stages left in their checkpoints: curves and costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dynaq.agents.arms import Arm
from dynaq.data.snapshot import Snapshot
from dynaq.evaluation.study.metrics import Curve, learning_curve
from dynaq.tracking.checkpoint import load_checkpoint


def training_figure(checkpoints: Mapping[Arm, Path], snapshot: Snapshot, gamma: float) -> dict[str, dict[str, Curve]]:
    """Reward and loss of each training stage over its steps, at one discount, mean over seeds."""
    curves: dict[str, list[dict[str, list[float | None]]]] = {}
    for arm, path in checkpoints.items():
        if arm.gamma == gamma:
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


def label_cost(checkpoints: Mapping[Arm, Path], snapshot: Snapshot) -> dict[str, int]:
    """What the labels of all agents and seeds cost together, when they were trained."""
    total: Counter[str] = Counter()
    for path in checkpoints.values():
        manifest = load_checkpoint(path, snapshot.manifest.digest).manifest
        total.update(manifest.cost)
        total["labels_used"] += manifest.labels
    return dict(total)


def training_curves_of(checkpoint: Path, snapshot: Snapshot) -> dict[str, list[float | None]]:
    """One checkpoint's curves by metric, named for MLflow."""
    curves = load_checkpoint(checkpoint, snapshot.manifest.digest).curves
    return {f"training_{name}": values for name, values in curves.items()}
