"""Figures of a comparison and of training, as PNG files that can be read without their report."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from dynaq.evaluation.metrics import Curve

# Okabe and Ito (2008), told apart by the colour-blind; an arm keeps its colour in every figure.
COLOURS = {"cosine": "#0072B2", "llm": "#D55E00", "hybrid": "#009E73", "baseline": "#CC79A7"}
SPARE = ("#56B4E9", "#E69F00", "#8C6D31", "#333333")
GREY = "#555555"
DPI = 150


def learning_curves(
    curves: Mapping[str, Curve], references: Mapping[str, Curve], path: Path, title: str, note: str
) -> None:
    """Draw the online reward of each arm against the step, with 95% bands.

    Args:
        curves: one for each arm, by name; the four agents have colours of their own.
        references: drawn dashed and without a band: "random" and "optimum".
        path: the PNG to write.
        title: above the plot.
        note: below it: where the market and the labels come from, how many seeds.
    """
    figure = Figure(figsize=(9, 5.4), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    ends = _draw(axes, curves)
    for name, curve in references.items():
        axes.plot(curve.steps, curve.mean, color=GREY, linestyle="--", linewidth=1.2)
        ends[name] = (curve, GREY)
    axes.set_ylim(bottom=0)
    _label_ends(axes, ends)
    axes.set_xlabel("online step (one slate for each applicant)")
    axes.set_ylabel("interactions per job shown (trailing mean)")
    axes.set_title(title, loc="left", fontweight="bold")
    _save(figure, note, path)


def training_curves(panels: Mapping[str, Mapping[str, Curve]], path: Path, title: str, note: str) -> None:
    """Draw what training measured, one panel a quantity, side by side.

    Args:
        panels: label of the y-axis with its unit ("TD loss", "reward per step") -> arm -> curve.
        path: the PNG to write.
        title: above the panels.
        note: below them: which labels were trained on, how many seeds.
    """
    figure = Figure(figsize=(6 * len(panels), 4.4), dpi=DPI, layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (quantity, curves) in zip(row, panels.items(), strict=True):
        _label_ends(axes, _draw(axes, curves))
        axes.set_xlabel("training step")
        axes.set_ylabel(quantity)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    _save(figure, note, path)


def _draw(axes: Axes, curves: Mapping[str, Curve]) -> dict[str, tuple[Curve, str]]:
    """Lines and bands; returns each curve with its colour, by name."""
    spare = iter(SPARE * (1 + len(curves) // len(SPARE)))
    drawn = {name: (curve, COLOURS.get(name) or next(spare)) for name, curve in curves.items()}
    for curve, colour in drawn.values():
        axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(curve.steps, curve.mean, color=colour, linewidth=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.margins(x=0.01)
    return drawn


def _label_ends(axes: Axes, ends: Mapping[str, tuple[Curve, str]]) -> None:
    """Write each name at the end of its line, as near as goes without overlap: no legend to look up."""
    names = sorted(ends, key=lambda name: float(ends[name][0].mean[-1]))
    bottom, top = axes.get_ylim()
    stacked = np.arange(len(names)) * (top - bottom) * 0.05
    heights = isotonic_regression([ends[name][0].mean[-1] for name in names] - stacked).x + stacked
    for name, height in zip(names, heights, strict=True):
        axes.annotate(
            name,
            xy=(1, height),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=ends[name][1],
            fontweight="bold",
        )


def _save(figure: Figure, note: str, path: Path) -> None:
    characters = int(14 * figure.get_figwidth())
    figure.supxlabel(textwrap.fill(note, characters), fontsize=8, color=GREY, x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
