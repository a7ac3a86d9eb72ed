"""Online runs whose figures can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dynaq.agents.arms import WARM_STARTS, Arm, WarmStart
from dynaq.evaluation.comparison import OnlineRun, References

SEEDS, STEPS, APPLICANTS = 4, 6, 2


def online_run(agent: WarmStart, gamma: float, seed: int, gain: float) -> OnlineRun:
    """The same reward at every step: 0.1 more in each next seed, and over the baseline ``gain`` plus or minus 0.01."""
    wobble = 0 if agent == "baseline" else 0.01 * (-1) ** seed
    rewards = np.full((STEPS, APPLICANTS), 0.1 * (1 + seed) + gain + wobble, dtype=np.float32)
    labels = 100 + seed if agent in ("llm", "hybrid") else 0
    return OnlineRun(Arm(agent, gamma, seed), rewards, {}, labels, [])


def online_runs(gains: Mapping[WarmStart, float], gamma: float) -> list[OnlineRun]:
    """All agents at all seeds; who is not in ``gains`` gains nothing."""
    return [online_run(agent, gamma, seed, gains.get(agent, 0.0)) for agent in WARM_STARTS for seed in range(SEEDS)]


def references() -> dict[int, References]:
    """Random choice earns 0.05, the best 0.95."""
    return {seed: References(np.full(STEPS, 0.05), np.full(STEPS, 0.95)) for seed in range(SEEDS)}
