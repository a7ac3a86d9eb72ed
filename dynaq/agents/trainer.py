"""The loop that every phase shares: observe, ask, hear the answers, learn. Interrupted, it goes on where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dynaq.agents.acquisition import Choose, policy
from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.learner import Learner
from dynaq.agents.state import agent_state, load_agent_state
from dynaq.mdp.environment import Environment
from dynaq.tracking.progress import Progress

log = logging.getLogger(__name__)

METRICS = ("reward", "q_loss", "world_model_skill", "gradient_steps", "planning_steps", "epsilon")


@dataclass(frozen=True)
class Curves:
    """What happened at each environment step: float64 [steps] by metric name, see METRICS; NaN where undefined."""

    values: dict[str, NDArray[np.float64]]

    @property
    def gradient_steps(self) -> int:
        """Steps of the optimiser, on real answers and on imagined ones."""
        return int(self.values["gradient_steps"].sum())


Reached = Callable[[int, Curves], None]  # steps done, and their curves


def learn(
    agent: Learner,
    environment: Environment,
    steps: int,
    updates_per_step: int,
    epsilon: Callable[[int], float],
    seed: int,
    progress: Progress | None = None,
    choose: Choose = policy,
    reached: Reached = lambda *_: None,
) -> Curves:
    """Let an agent learn for a number of environment steps.

    Args:
        agent: learns in place.
        environment: gives applicants, candidates and answers.
        steps: environment steps.
        updates_per_step: Dyna-Q updates after each step.
        epsilon: exploration rate of a step.
        seed: seeds dropout, which torch draws from its global generator.
        progress: where everything is saved every now and then, and taken up from if it is there; the result is that
            of a run never interrupted, bit for bit. To be forgotten when the result is safe. For Dyna-Q only: the
            policies it is compared with learn within seconds, and begin again.
        choose: which pairs of those observed are asked about.
        reached: called after each step, before everything is saved: dropout goes on as it leaves the generator.
    """
    curves = {name: np.full(steps, np.nan) for name in METRICS}
    saved = progress if isinstance(agent, DynaQ) else None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = _resume(saved, agent, environment, curves) if saved and isinstance(agent, DynaQ) else 0
        for step in range(first, steps):
            seen = environment.observe(step)
            asked = choose(agent, seen, epsilon(step))
            rewards = environment.rewards(step, asked.applicants, asked.jobs)
            agent.remember(asked.applicants, asked.jobs, rewards, asked.uniform)
            losses = [loss for _ in range(updates_per_step) if (loss := agent.update()) is not None]
            curves["reward"][step] = _mean([r for r in rewards.tolist() if r == r])
            curves["q_loss"][step] = _mean([loss.q for loss in losses])
            planned = sum(loss.planning_steps for loss in losses)
            curves["gradient_steps"][step], curves["planning_steps"][step] = len(losses) + planned, planned
            curves["world_model_skill"][step] = agent.skill
            curves["epsilon"][step] = epsilon(step)
            reached(step + 1, Curves({name: values[: step + 1] for name, values in curves.items()}))
            if saved and isinstance(agent, DynaQ) and saved.due and step + 1 < steps:
                _save(saved, agent, environment, curves, step + 1)
    if agent.piloting:
        log.warning("nothing was learned: there were fewer answers than agent.hand_over.pilot asks for")
    return Curves(curves)


def _save(
    saved: Progress, agent: DynaQ, environment: Environment, curves: dict[str, NDArray[np.float64]], step: int
) -> None:
    saved.save(
        {
            "step": torch.tensor(step),
            "torch": torch.get_rng_state(),
            **{f"agent.{name}": tensor for name, tensor in agent_state(agent).items()},
            **{f"environment.{name}": tensor for name, tensor in environment.tensors().items()},
            **{f"curves.{name}": torch.from_numpy(values) for name, values in curves.items()},
        }
    )


def _resume(saved: Progress, agent: DynaQ, environment: Environment, curves: dict[str, NDArray[np.float64]]) -> int:
    """Take up what was saved; returns the step to go on with, 0 if there is nothing."""
    parts = saved.load()
    if parts is None:
        return 0
    load_agent_state(agent, {k.removeprefix("agent."): t for k, t in parts.items() if k.startswith("agent.")})
    environment.load({k.removeprefix("environment."): t for k, t in parts.items() if k.startswith("environment.")})
    for name, values in curves.items():
        values[:] = parts[f"curves.{name}"].numpy()
    torch.set_rng_state(parts["torch"])
    return int(parts["step"])


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
