"""The loop that every phase shares: observe, act, hear the answers, learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dynaq.agents.dyna_q import DynaQ
from dynaq.mdp.environment import Environment

METRICS = ("reward", "q_loss", "world_model_loss", "world_model_skill", "planning_steps", "epsilon")


@dataclass(frozen=True)
class Curves:
    """What happened at each environment step: float64 [steps] by metric name, see METRICS; NaN where undefined."""

    values: dict[str, NDArray[np.float64]]


def learn(
    agent: DynaQ,
    environment: Environment,
    steps: int,
    updates_per_step: int,
    epsilon: Callable[[int], float],
    seed: int,
) -> Curves:
    """Let an agent learn for a number of environment steps.

    Args:
        agent: learns in place.
        environment: gives applicants, candidates and answers.
        steps: environment steps.
        updates_per_step: Dyna-Q updates after each step.
        epsilon: exploration rate of a step.
        seed: seeds dropout, which torch draws from its global generator.
    """
    curves = {name: np.full(steps, np.nan) for name in METRICS}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for step in range(steps):
            seen = environment.observe(step)
            slates = agent.act(seen.applicants, seen.candidates, epsilon(step))
            applicants = seen.applicants.repeat_interleave(slates.shape[1])
            rewards = environment.rewards(step, applicants, slates.flatten())
            agent.remember(applicants, slates.flatten(), rewards)
            losses = [loss for _ in range(updates_per_step) if (loss := agent.update()) is not None]
            curves["reward"][step] = _mean([r for r in rewards.tolist() if r == r])
            curves["q_loss"][step] = _mean([loss.q for loss in losses])
            curves["world_model_loss"][step] = _mean([w for loss in losses if (w := loss.world_model) == w])
            curves["planning_steps"][step] = sum(loss.planning_steps for loss in losses)
            curves["world_model_skill"][step] = agent.skill
            curves["epsilon"][step] = epsilon(step)
    return Curves(curves)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
