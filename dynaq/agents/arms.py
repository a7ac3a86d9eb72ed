"""The arms of the experiment: four warm starts, each with the configured discount and with none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from dynaq.config import Config

WarmStart = Literal["cosine", "llm", "hybrid", "baseline"]
WARM_STARTS: tuple[WarmStart, ...] = get_args(WarmStart)


@dataclass(frozen=True)
class Arm:
    """One agent of the comparison: a warm start, a discount, a seed."""

    agent: WarmStart
    gamma: float
    seed: int

    @property
    def name(self) -> str:
        """For people and directories: cosine-g0.3-s0."""
        return f"{self.agent}-g{self.gamma:g}-s{self.seed}"


def arms(config: Config, *agents: WarmStart) -> list[Arm]:
    """All arms of the given warm starts; gamma 0 always beside the configured one."""
    gammas = list(dict.fromkeys((config.agent.gamma, 0.0)))
    seeds = range(config.seed, config.seed + config.compare.seeds)
    return [Arm(agent, gamma, seed) for gamma in gammas for agent in agents for seed in seeds]
