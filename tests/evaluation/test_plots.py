"""Figures are written and show what they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from dynaq.evaluation.metrics import Curve, learning_curve
from dynaq.evaluation.plots import COLOURS, learning_curves, training_curves


def curve(level: float, seeds: int = 5) -> Curve:
    noise = np.random.default_rng(0).normal(0, 0.02, (seeds, 40))
    return learning_curve(level + noise, window=5)


def has_colour(path: Path, colour: str) -> bool:
    wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return bool((np.abs(imread(path)[:, :, :3] - wanted).max(axis=2) < 0.01).any())


def test_learning_curves_show_every_arm_in_its_colour(tmp_path: Path) -> None:
    path = tmp_path / "new" / "curves.png"
    arms = {"cosine": curve(0.3), "llm": curve(0.31), "hybrid": curve(0.35), "baseline": curve(0.15)}
    learning_curves(arms, {"random": curve(0.1), "optimum": curve(0.6)}, path, "Warm starts", "generated market")
    assert all(has_colour(path, colour) for colour in COLOURS.values())
    first = path.read_bytes()
    learning_curves(arms, {"random": curve(0.1), "optimum": curve(0.6)}, path, "Warm starts", "generated market")
    assert path.read_bytes() == first


@pytest.mark.parametrize("seeds", [1, 3])
def test_training_curves_take_one_seed_and_unknown_arms(tmp_path: Path, seeds: int) -> None:
    path = tmp_path / "training.png"
    panels = {
        "TD loss": {"cosine": curve(0.2, seeds)},
        "reward": {f"arm {i}": curve(i, seeds) for i in range(6)},
    }
    training_curves(panels, path, "Pre-training", "")
    assert has_colour(path, COLOURS["cosine"])
    assert imread(path).shape[1] > imread(path).shape[0]
