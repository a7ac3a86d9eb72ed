"""Figures show what they are given, in both themes, byte for byte the same again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from dynaq.evaluation.report.lineup import by_labels, four, panels
from dynaq.evaluation.report.plots import DARK, LIGHT, Theme, learning_curves, png, survival_curves, training_curves
from dynaq.evaluation.report.plots_study import calibration, cost_curves, gains, strategy_map
from dynaq.evaluation.study.metrics import learning_curve
from dynaq.evaluation.study.study import Study
from tests.evaluation.hand_made import GAMMA, study

Draw = Callable[[Theme], Figure]
NOTE = "labels by $a strange_{name$"


@pytest.fixture(scope="module")
def whole() -> Study:
    return study({"cosine": 0.05, "hybrid": 0.09, "llm": 0.03}, levels=(0, 0.5, 1))


def has_colour(image: bytes, colour: str) -> bool:
    wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return bool((np.abs(imread(BytesIO(image))[:, :, :3] - wanted).max(axis=2) < 0.02).any())


def letters(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_learning_curves_show_every_agent_in_its_colour(whole: Study, theme: Theme) -> None:
    agents = {row.contestant.kind: row.curve for row in four(whole, GAMMA)}
    draw = partial(learning_curves, agents, {"random": agents["baseline"]}, "Warm starts", NOTE)
    image = png(draw(theme))
    assert all(has_colour(image, theme.colours[name]) for name in agents)
    assert has_colour(image, theme.paper)
    assert png(draw(theme)) == image


def test_the_map_writes_winner_and_lead_in_every_cell_and_hatches_ties(whole: Study) -> None:
    cells = panels(whole)["llm"]
    figure = strategy_map("llm", cells, 0.12, "Who wins", NOTE, LIGHT)
    said = [f"{cell.best}\n{cell.lead.difference.mean:+.3f}\n±0.010" for cell in cells]
    assert sorted(letters(figure)) == sorted([*said, "tonight\n0.12"])
    hatched = [patch.get_hatch() is not None for patch in figure.axes[0].patches]
    assert hatched == [cell.lead.difference.low <= 0 for cell in cells]
    assert 0 < sum(hatched) < len(hatched)


def test_the_cost_curve_has_a_place_for_no_labels(whole: Study) -> None:
    figure = cost_curves({"llm": by_labels(whole, GAMMA, "llm")}, "Cost", NOTE, LIGHT)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "50", "200", "1,000", "5,000"]
    assert len(axes.lines[0].get_xdata()) == 5  # it begins as the baseline
    assert (np.diff(axes.lines[0].get_xdata()) > 0).all()


def test_names_at_the_ends_of_lines_do_not_overlap(whole: Study) -> None:
    times = {row.contestant.kind: row.times[0.5] for row in four(whole, GAMMA)}
    figure = survival_curves(times, "Time", NOTE, LIGHT)
    figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 2 for low, high in pairwise(boxes))


def test_the_other_figures_are_drawn(whole: Study) -> None:
    rows = four(whole, GAMMA)
    assert has_colour(png(gains(rows, "Gains", NOTE, DARK)), DARK.colours["hybrid"])
    assert has_colour(png(calibration(rows, "Beliefs", NOTE, LIGHT)), LIGHT.colours["llm"])


@pytest.mark.parametrize("seeds", [1, 3])
def test_training_curves_take_one_seed_and_unknown_arms(seeds: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, (seeds, 40))
    curves = {name: learning_curve(level + noise, window=5) for level, name in enumerate(["cosine", *"abcde"])}
    image = png(training_curves("reward", curves, "Before launch", "", LIGHT))
    assert has_colour(image, LIGHT.colours["cosine"])
    assert all(has_colour(image, spare) for spare in LIGHT.spare)
