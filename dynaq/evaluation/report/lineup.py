"""Which rows of a study a table or a figure shows."""

from __future__ import annotations

from dynaq.agents.arms import WARM_STARTS, WarmStart
from dynaq.evaluation.contestants import Contestant, Control
from dynaq.evaluation.study.study import Cell, Row, Study

# What keeps the agents honest.
CONTROLS: dict[WarmStart | Control, str] = {
    "random": "any of the candidates",
    "popularity": "what others took up so far",
    "raw cosine": "the most similar candidate; learns nothing",
    "ranker": "supervised on the labels of hybrid",
    "bandit": "linear, on the labels of hybrid if any",
    "no planning": "hybrid that replays its labels as often as it would have imagined others",
    "optimum": "the best slate, which only the market knows",
}
CHALLENGING = ("popularity", "raw cosine", "ranker", "bandit", "no planning")  # what an agent should be better than
COSINE_INSIDE = ("raw cosine", "ranker", "bandit")


def budgets(study: Study, gamma: float) -> list[int]:
    """Budgets of labels at a discount, ascending; empty where no labels were used."""
    return sorted(
        {
            row.contestant.labels
            for row in study.rows
            if row.contestant.kind in ("llm", "hybrid") and row.contestant.gamma == gamma
        }
    )


def four(study: Study, gamma: float) -> list[Row]:
    """The agents at a discount and its largest budget; llm and hybrid are missing where labels cannot be trusted."""
    largest = max(budgets(study, gamma), default=0)
    found = (study.row(kind, gamma, largest if kind in ("llm", "hybrid") else 0) for kind in WARM_STARTS)
    return [row for row in found if row is not None]


def controls(study: Study, gamma: float) -> list[Row]:
    """Everybody else at a discount, without labels and at its largest budget, in the order of CONTROLS."""
    rows, largest = {row.contestant: row for row in study.rows}, max(budgets(study, gamma), default=0)
    shown = [Contestant(kind, gamma, labels) for kind in CONTROLS for labels in sorted({0, largest})]
    return [rows[each] for each in shown if each in rows]


def by_labels(study: Study, gamma: float, kind: str) -> list[Row]:
    """One kind at every budget, ascending; llm and hybrid begin as what they are without labels."""
    before = {"llm": "baseline", "hybrid": "cosine"}.get(kind)
    rows = [row for row in study.rows if row.contestant.gamma == gamma and row.contestant.kind in (kind, before)]
    return sorted(rows, key=lambda row: row.contestant.labels)


def panels(study: Study) -> dict[str, list[Cell]]:
    """The map's cells by training reward. A market that agrees with none belongs to all, and was run once."""
    shared = [cell for cell in study.map if cell.world.level == 0]
    named = [cell for cell in study.map if cell.world.level > 0]
    rewards = dict.fromkeys(cell.world.towards for cell in named or shared)
    return {name: [*shared, *(cell for cell in named if cell.world.towards == name)] for name in rewards}
