"""Figures of a whole study: the map, gains, what labels buy, and what world models believe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dynaq.evaluation.report.plots import NORMAL, SMALL, Theme, canvas, label_ends, name_axes
from dynaq.evaluation.study.metrics import Estimate
from dynaq.evaluation.study.study import Cell, Row

_MARKERS = "osD^vP"
_PALE = 0.35  # share of the winner's colour in a tie


def strategy_map(
    towards: str, cells: Sequence[Cell], tonight: float | None, title: str, note: str, theme: Theme
) -> Figure:
    """Draw who is first at each agreement and budget; a tie is paler and hatched.

    Args:
        towards: the training reward of the rows.
        cells: of that reward.
        tonight: agreement of the evaluator's own market, marked at the side; None if it is not known.
        title: what to see.
        note: below.
        theme: colours.
    """
    figure, axes = canvas(theme, title, note, height=4.4)
    levels = sorted({cell.world.level for cell in cells})
    labels = sorted({cell.labels for cell in cells})
    for cell in cells:
        _draw_cell(axes, cell, labels.index(cell.labels), levels.index(cell.world.level), theme)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_ylim(-0.5, len(levels) - 0.5)
    axes.set_xticks(range(len(labels)), [f"{each:,}" for each in labels])
    axes.set_yticks(range(len(levels)), [f"{each:g}" for each in levels])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    name_axes(axes, theme, "budget of labels", f"agreement with the {towards} reward")
    if tonight is not None:
        axes.annotate(
            f"tonight\n{tonight:.2f}",
            xy=(1, float(np.interp(tonight, levels, range(len(levels))))),
            xycoords=("axes fraction", "data"),
            xytext=(14, 0),
            textcoords="offset points",
            va="center",
            color=theme.ink,
            fontsize=SMALL,
            arrowprops={"arrowstyle": "-|>", "color": theme.ink, "shrinkA": 1, "shrinkB": 0},
        )
    return figure


def _draw_cell(axes: Axes, cell: Cell, column: int, row: int, theme: Theme) -> None:
    lead = cell.lead.difference
    colour, tie = theme.colour(cell.best), lead.low <= 0
    face = _mixed(colour, theme.paper, _PALE) if tie else colour
    axes.add_patch(
        Rectangle(
            (column - 0.48, row - 0.47),
            0.96,
            0.94,
            facecolor=face,
            edgecolor=_mixed(colour, theme.paper, 0.55) if tie else face,
            hatch="////" if tie else None,
            linewidth=0,
        )
    )
    axes.text(
        column,
        row,
        f"{cell.best}\n{lead.mean:+.3f}\n\u00b1{(lead.high - lead.low) / 2:.3f}",
        ha="center",
        va="center",
        color=max(("#000000", "#FFFFFF"), key=lambda ink: _contrast(ink, face)),
        fontsize=SMALL,
        fontweight="normal" if tie else "bold",
    )


def _mixed(colour: str, paper: str, share: float) -> str:
    red, green, blue = share * np.array(to_rgb(colour)) + (1 - share) * np.array(to_rgb(paper))
    return to_hex((red, green, blue))


def _contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2."""
    darker, lighter = sorted(_luminance(each) for each in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def gains(rows: Sequence[Row], title: str, note: str, theme: Theme) -> Figure:
    """Draw what each agent gains over the baseline, over all steps."""
    figure, axes = canvas(theme, title, note, height=2.6)
    shown = [row for row in reversed(rows) if row.gain]
    for height, row in enumerate(shown):
        if row.gain:
            axes.errorbar(
                row.gain.difference.mean,
                height,
                xerr=_bars([row.gain.difference]),
                fmt="o",
                markersize=7,
                linewidth=2,
                color=theme.colour(row.contestant.kind, height),
            )
    axes.axvline(0, color=theme.muted, linewidth=1.2)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_yticks(range(len(shown)), [row.contestant.kind for row in shown])
    for label, row in zip(axes.get_yticklabels(), shown, strict=True):
        label.set(color=theme.colour(row.contestant.kind), fontweight="bold")
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=theme.grid, linewidth=0.8)
    name_axes(axes, theme, "interactions per job shown beyond the baseline", "")
    return figure


def cost_curves(arms: Mapping[str, Sequence[Row]], title: str, note: str, theme: Theme) -> Figure:
    """Draw the average reward of each arm against the labels it paid for, with 95% intervals."""
    figure, axes = canvas(theme, title, note)
    budgets = sorted({row.contestant.labels for rows in arms.values() for row in rows})
    places = dict(zip(budgets, _on_log_axis(budgets), strict=True))
    ends = {}
    for number, (name, rows) in enumerate(arms.items()):
        colour, aside = theme.colour(name, number), 0.03 * (number - (len(arms) - 1) / 2)
        axes.errorbar(
            [places[row.contestant.labels] + aside for row in rows],
            [row.average.mean for row in rows],
            yerr=_bars([row.average for row in rows]),
            color=colour,
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=5,
            linewidth=1.6,
            elinewidth=1.2,
        )
        ends[name] = (rows[-1].average.mean, colour)
    axes.set_xticks(list(places.values()), [f"{each:,}" for each in places])
    label_ends(axes, ends)
    name_axes(axes, theme, "budget of labels of an agent (log scale, 0 beside it)", "interactions per job shown")
    return figure


def _on_log_axis(budgets: Sequence[int]) -> list[float]:
    """Places of ascending budgets: their logarithm, and half a decade before the first for 0."""
    first = next(filter(None, budgets), 1)
    return [float(np.log10(each)) if each else float(np.log10(first)) - 0.5 for each in budgets]


def _bars(values: Sequence[Estimate]) -> list[list[float]]:
    """Lengths of error bars below and above."""
    return [[each.mean - each.low for each in values], [each.high - each.mean for each in values]]


def calibration(rows: Sequence[Row], title: str, note: str, theme: Theme) -> Figure:
    """Draw the true rate of interactions against the predicted one, a mark a tenth of all pairs."""
    figure, axes = canvas(theme, title, note)
    shown = [row for row in rows if row.calibration]
    top = max(value for row in shown for pair in row.calibration or () for value in pair)
    bottom = min(0.0, *(value for row in shown for pair in row.calibration or () for value in pair))
    axes.plot([bottom, top], [bottom, top], color=theme.muted, linestyle="--", linewidth=1.2, label="as predicted")
    for place, row in enumerate(shown):
        predicted, true = zip(*(row.calibration or ()), strict=True)
        name, marker = row.contestant.kind, _MARKERS[place % len(_MARKERS)]
        axes.plot(predicted, true, color=theme.colour(name, place), marker=marker, markersize=5, label=name)
    axes.legend(loc="upper left", fontsize=NORMAL, frameon=False, labelcolor="linecolor")
    name_axes(axes, theme, "predicted chance of an interaction", "true chance")
    return figure
