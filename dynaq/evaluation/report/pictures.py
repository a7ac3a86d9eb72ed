"""The figures of a night, by file name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from dynaq.evaluation.report import words
from dynaq.evaluation.report.lineup import budgets, by_labels, four, panels
from dynaq.evaluation.report.night import Night
from dynaq.evaluation.report.plots import Theme, learning_curves, share_curves, survival_curves, training_curves
from dynaq.evaluation.report.plots_study import calibration, cost_curves, gains, strategy_map


@dataclass(frozen=True)
class Picture:
    """A figure that is drawn when its theme is known.

    Attributes:
        title: what to see, which also stands for it where it cannot be seen.
        draw: the rest of what it needs is bound.
    """

    title: str
    draw: Callable[[Theme], Figure]


def pictures(night: Night) -> dict[str, Picture]:
    """Every figure that this night has something to show in."""
    study, gamma = night.study, night.config.agent.gamma
    agents, note = four(study, gamma), _note(night, max(budgets(study, gamma), default=0))
    shown: dict[str, Picture] = {}

    def add(name: str, title: str, draw: Callable[..., Figure], *arguments: object, note: str = note) -> None:
        shown[f"{name}.png"] = Picture(title, partial(draw, *arguments, title, note))

    every_budget = _note(night)
    for towards, cells in panels(study).items():
        tie = "pale and hatched: a tie (the 95% interval of the lead includes 0)"
        tonight = study.agreement.get(towards)
        add(
            f"map_{towards}",
            words.map_title(towards, cells),
            strategy_map,
            towards,
            cells,
            tonight,
            note=f"{tie}; {every_budget}",
        )
    curves = {row.contestant.kind: row.curve for row in agents}
    references = {row.contestant.kind: row.curve for row in study.rows if row.contestant.kind in ("random", "optimum")}
    add("learning_curves", words.curves_title(agents), learning_curves, curves, references)
    add("shares", words.shares_title(agents), share_curves, {row.contestant.kind: row.known for row in agents})
    add("gains", "What each warm start gains over none", gains, agents)
    for threshold in agents[0].times:
        times = {row.contestant.kind: row.times[threshold] for row in agents}
        add(f"survival_{100 * threshold:g}", words.survival_title(threshold, agents), survival_curves, times)
    if budgets(study, gamma):
        paying = ("llm", "hybrid", "ranker", "bandit", "no planning")
        arms = {kind: rows for kind in paying if (rows := by_labels(study, gamma, kind))}
        add("cost", words.cost_title(study, gamma), cost_curves, arms, note=every_budget)
    if any(row.calibration for row in agents):
        add("calibration", words.calibration_title(agents), calibration, agents)
    for quantity, agent_curves in night.training.items():
        name = re.sub(r"\W+", "_", quantity)
        add(f"training_{name}", f"Before launch: {quantity}", training_curves, quantity, agent_curves)
    return shown


def _note(night: Night, labels: int = 0) -> str:
    """Where the figures come from; llm and hybrid are those with so many labels, of every budget where none is told."""
    market = "generated market; " if night.generated else ""
    stand_in = " (a rule-based stand-in)" if night.stand_in else ""
    shown = f"llm and hybrid with {labels:,} labels" if labels else "labels"
    return f"{market}{night.study.seeds} seeds, 95% intervals; {shown} by {night.label_source}{stand_in}"
