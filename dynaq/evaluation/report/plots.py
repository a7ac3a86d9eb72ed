"""How the figures of a report look, in a light and a dark theme, and its curves over steps.

Each figure is as wide as a phone is, so that its letters can be read there; pages set them side by side.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import isotonic_regression

from dynaq.evaluation.study.metrics import Curve
from dynaq.evaluation.study.survival import Survival

WIDTH, HEIGHT = 4.8, 4.0  # inches: 390 pixels of a phone are about 75 an inch
DPI = 200
_PALETTE = 128  # colours
SMALL, NORMAL, LARGE = 8.0, 9.0, 10.5  # points


@dataclass(frozen=True)
class Theme:
    """Colours; those of a contestant are told apart by the colour-blind and stay its own in every figure.

    Attributes:
        paper: behind everything, as of the page.
        ink, muted, grid: of letters, of notes and references, of lines behind.
        colours: by kind of contestant.
        spare: for names that have none.
    """

    paper: str
    ink: str
    muted: str
    grid: str
    colours: Mapping[str, str]
    spare: Sequence[str]

    def colour(self, name: str, place: int = 0) -> str:
        """A contestant's own, or a spare one by its place."""
        return self.colours.get(name, self.spare[place % len(self.spare)])


# After Okabe and Ito (2008); on dark paper the same hues, lighter.
LIGHT = Theme(
    paper="#FFFFFF",
    ink="#1B1F24",
    muted="#57606A",
    grid="#DFE2E6",
    colours={
        "cosine": "#0072B2",
        "llm": "#D55E00",
        "hybrid": "#009E73",
        "baseline": "#CC79A7",
        "no planning": "#6B8E23",
        "ranker": "#B07C00",
        "bandit": "#3F9FD8",
    },
    spare=("#56B4E9", "#E69F00", "#8C6D31", "#333333"),
)
DARK = Theme(
    paper="#14171C",
    ink="#E6EAF0",
    muted="#9AA4B2",
    grid="#2C323B",
    colours={
        "cosine": "#4DA3E8",
        "llm": "#FF8A3D",
        "hybrid": "#2CC79A",
        "baseline": "#E59AC4",
        "no planning": "#A9C95B",
        "ranker": "#E3B341",
        "bandit": "#8FD0F5",
    },
    spare=("#8FD0F5", "#F0B848", "#C9A66B", "#CCCCCC"),
)


def canvas(theme: Theme, title: str, note: str, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty figure of one panel, with its title above and its note below."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor=theme.paper)
    axes = figure.add_subplot(facecolor=theme.paper)
    # Names in it are text: a dollar sign starts no formula.
    above = figure.suptitle(textwrap.fill(title, 52), x=0.01, ha="left", fontsize=LARGE, fontweight="bold")
    above.set(color=theme.ink, parse_math=False)
    if note:
        below = figure.supxlabel(textwrap.fill(note, 80), x=0.01, ha="left", fontsize=SMALL)
        below.set(color=theme.muted, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.muted)
    axes.tick_params(colors=theme.muted, labelcolor=theme.ink, labelsize=NORMAL)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    return figure, axes


def name_axes(axes: Axes, theme: Theme, x: str, y: str) -> None:
    """Write what the axes measure, with units."""
    axes.set_xlabel(x, fontsize=NORMAL, color=theme.ink)
    axes.set_ylabel(y, fontsize=NORMAL, color=theme.ink)


def png(figure: Figure) -> bytes:
    """The same bytes for the same figure; with a palette, which makes them a third as many."""
    drawn, file = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", pil_kwargs={"compress_level": 1})
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(_PALETTE).save(file, "png")
    return file.getvalue()


def learning_curves(
    curves: Mapping[str, Curve], references: Mapping[str, Curve], title: str, note: str, theme: Theme
) -> Figure:
    """Draw the online reward of each agent against the step, with 95% bands.

    Args:
        curves: one for each agent, by name.
        references: drawn dashed and without a band: random and optimum.
        title: what to see.
        note: where the market and the labels come from, how many seeds.
        theme: colours.
    """
    figure, axes = canvas(theme, title, note)
    ends = _draw(axes, curves, theme)
    for name, curve in references.items():
        axes.plot(curve.steps, curve.mean, color=theme.muted, linestyle="--", linewidth=1.2)
        ends[name] = (float(curve.mean[-1]), theme.muted)
    axes.set_ylim(bottom=0)
    label_ends(axes, ends)
    name_axes(axes, theme, "online step (one slate for each applicant)", "interactions per job shown (trailing mean)")
    return figure


def share_curves(curves: Mapping[str, Curve], title: str, note: str, theme: Theme) -> Figure:
    """Draw what each agent knows, at rest, against the step: 0 a random choice, 1 the best, with 95% bands."""
    figure, axes = canvas(theme, title, note)
    ends = _draw(axes, curves, theme)
    axes.axhline(0, color=theme.muted, linestyle="--", linewidth=1.2)
    label_ends(axes, ends)
    name_axes(axes, theme, "online step", "share of the way from random to the best")
    return figure


def training_curves(quantity: str, curves: Mapping[str, Curve], title: str, note: str, theme: Theme) -> Figure:
    """Draw what training measured; `quantity` is written along the y-axis."""
    figure, axes = canvas(theme, title, note)
    label_ends(axes, _draw(axes, curves, theme))
    name_axes(axes, theme, "training step", quantity)
    return figure


def survival_curves(times: Mapping[str, Survival], title: str, note: str, theme: Theme) -> Figure:
    """Draw the share of seeds that have not reached a threshold, by agent."""
    figure, axes = canvas(theme, title, note)
    ends = {}
    for place, name in enumerate(sorted(times, key=lambda name: times[name].restricted_mean)):
        time, colour = times[name], theme.colour(name, place)
        steps, left = np.concatenate([[0], time.steps]), np.concatenate([[1.0], time.not_reached])
        width = 2 + 1.5 * (len(times) - 1 - place)  # whoever lies under others shows at their sides
        axes.step(steps, left, where="post", color=colour, linewidth=width)
        ends[name] = (float(left[-1]), colour)
    axes.set_ylim(-0.02, 1.04)
    axes.margins(x=0.01)
    label_ends(axes, ends)
    name_axes(axes, theme, "online step", "share of seeds that do not hold it yet")
    return figure


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, str]]) -> None:
    """Write each name at the height and in the colour of its line's end, as near as goes without overlap."""
    names = sorted(ends, key=lambda name: ends[name][0])
    bottom, top = axes.get_ylim()
    for name, height in zip(names, _spread([ends[name][0] for name in names], bottom, top), strict=True):
        axes.annotate(
            name,
            xy=(1, height),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=ends[name][1],
            fontsize=NORMAL,
            fontweight="bold",
            parse_math=False,
        )


def _spread(heights: Sequence[float], bottom: float, top: float) -> NDArray[np.float64]:
    """Ascending heights, moved as little as leaves a line of letters between them and none outside the axis."""
    line = 0.07 * (top - bottom)
    stacked = np.arange(len(heights)) * line
    apart: NDArray[np.float64] = isotonic_regression(np.asarray(heights) - stacked).x + stacked
    lowered = np.minimum(apart, top - 0.3 * line - stacked[::-1])
    kept: NDArray[np.float64] = np.maximum(lowered, bottom + 0.3 * line + stacked)
    return kept


def _draw(axes: Axes, curves: Mapping[str, Curve], theme: Theme) -> dict[str, tuple[float, str]]:
    """Lines and bands; returns where each ends and its colour, by name."""
    ends = {}
    for place, (name, curve) in enumerate(curves.items()):
        colour = theme.colour(name, place)
        axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(curve.steps, curve.mean, color=colour, linewidth=2)
        ends[name] = (float(curve.mean[-1]), colour)
    axes.margins(x=0.01)
    return ends
