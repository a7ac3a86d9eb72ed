"""Who takes part in a comparison: the four agents at every budget of labels, and those that keep them honest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dynaq.agents.arms import Arm, WarmStart

Control = Literal[
    "optimum", "random", "popularity", "raw cosine", "bandit", "ranker", "no planning", "challenger", "champion"
]


@dataclass(frozen=True)
class Contestant:
    """One way to recommend.

    Attributes:
        kind: an agent or a control. ``bandit``, ``ranker`` and ``no planning`` learn from the labels that the hybrid
            of the same seed, discount and budget has paid for. ``challenger`` is tonight's best checkpoint, and
            ``champion`` the one to beat: the same weights for every seed. They meet in markets of their own.
        gamma: discount; of controls without one, the configured one.
        labels: questions to the LLM before launch.
    """

    kind: WarmStart | Control
    gamma: float
    labels: int = 0

    @property
    def name(self) -> str:
        """For people: hybrid, 200 labels."""
        labels = f", {self.labels:,} labels" if self.labels else ""
        return f"{self.kind}{labels}"

    @property
    def slug(self) -> str:
        """For directories: hybrid-g0.3-n200."""
        return f"{self.kind.replace(' ', '-')}-g{self.gamma:g}-n{self.labels}"

    def trained(self, seed: int) -> Arm | None:
        """The arm whose training it builds on; None if there was none."""
        if self.labels:
            return Arm("llm" if self.kind == "llm" else "hybrid", self.gamma, seed)
        return Arm("cosine", self.gamma, seed) if self.kind == "cosine" else None


def agents(gamma: float, budgets: list[int]) -> list[Contestant]:
    """The four agents at a discount: without labels, and at each of the budgets."""
    tuned: list[WarmStart] = ["llm", "hybrid"]
    return [
        Contestant("baseline", gamma),
        Contestant("cosine", gamma),
        *(Contestant(kind, gamma, budget) for kind in tuned for budget in budgets),
    ]


def contestants(gamma: float, budgets: list[int]) -> list[Contestant]:
    """Everybody who meets the market of the evaluator, but the challenger and the champion.

    Args:
        gamma: the configured discount; 0 takes part beside it, at the largest budget.
        budgets: of labels; empty where labels cannot be trusted.
    """
    zero = agents(0.0, budgets[-1:]) if gamma else []
    free: list[Control] = ["optimum", "random", "popularity", "raw cosine", "bandit"]
    paying: list[Control] = ["bandit", "ranker", "no planning"]
    return [
        *agents(gamma, budgets),
        *zero,
        *(Contestant(kind, gamma) for kind in free),
        *(Contestant(kind, gamma, budget) for kind in paying for budget in budgets),
    ]
