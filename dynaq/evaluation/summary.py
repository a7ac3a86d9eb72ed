"""From the runs of all arms to one row of figures an arm, with intervals and paired differences to the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynaq.agents.arms import WARM_STARTS, WarmStart
from dynaq.config import CompareConfig
from dynaq.errors import InputError
from dynaq.evaluation.comparison import OnlineRun, References
from dynaq.evaluation.metrics import ArmMetrics, Curve, Estimate, estimate, learning_curve, measure, paired_difference


@dataclass(frozen=True)
class ArmSummary:
    """One agent at one discount over all seeds.

    Attributes:
        agent, gamma: which arm.
        metrics: every figure, one value a seed.
        average: average reward per step.
        jump_start: average reward of the first window of steps.
        late: late performance.
        cumulative: rewards of an applicant summed over all steps.
        gain: paired difference of the average reward to the baseline of the same discount; zero for itself.
        labels: distinct LLM labels consumed a seed, on average.
        curve: trailing mean of the reward with its band.
    """

    agent: WarmStart
    gamma: float
    metrics: ArmMetrics
    average: Estimate
    jump_start: Estimate
    late: Estimate
    cumulative: Estimate
    gain: Estimate
    labels: float
    curve: Curve

    @property
    def name(self) -> str:
        """For tables: cosine, gamma 0.3."""
        return f"{self.agent}, gamma {self.gamma:g}"


@dataclass(frozen=True)
class Comparison:
    """All arms beside random choice and the optimum of the same candidates."""

    arms: list[ArmSummary]
    random: Curve
    optimum: Curve
    random_average: float
    optimum_average: float
    seeds: int
    steps: int
    applicants: int

    def of(self, gamma: float) -> list[ArmSummary]:
        """The arms of one discount, in the order of the warm starts."""
        return [arm for arm in self.arms if arm.gamma == gamma]


def summarise(runs: Sequence[OnlineRun], references: dict[int, References], config: CompareConfig) -> Comparison:
    """Put the arms side by side.

    Args:
        runs: all arms; every agent and discount must have run every seed of ``references``.
        references: by seed.
        config: windows and thresholds.

    Raises:
        InputError: an arm lacks a seed, or a baseline.
    """
    seeds = sorted(references)
    random = np.stack([references[seed].random for seed in seeds])
    optimum = np.stack([references[seed].optimum for seed in seeds])
    by_arm = {(run.arm.agent, run.arm.gamma, run.arm.seed): run for run in runs}
    summaries = []
    for gamma in dict.fromkeys(run.arm.gamma for run in runs):
        baseline = _rewards(by_arm, "baseline", gamma, seeds).mean(axis=1)
        # Without LLM labels that can be trusted there is nothing fine-tuned to compare.
        for agent in (each for each in WARM_STARTS if any(run.arm.agent == each for run in runs)):
            rewards = _rewards(by_arm, agent, gamma, seeds)
            metrics = measure(
                rewards,
                random,
                optimum,
                jump_steps=config.window,
                window=config.window,
                threshold_share=config.threshold_share,
                late_share=config.late_share,
            )
            summaries.append(
                ArmSummary(
                    agent=agent,
                    gamma=gamma,
                    metrics=metrics,
                    average=estimate(metrics.average_reward),
                    jump_start=estimate(metrics.jump_start),
                    late=estimate(metrics.late_performance),
                    cumulative=estimate(metrics.cumulative_reward),
                    gain=paired_difference(rewards.mean(axis=1), baseline),
                    labels=float(np.mean([by_arm[agent, gamma, seed].labels for seed in seeds])),
                    curve=learning_curve(rewards, config.window),
                )
            )
    steps, applicants = runs[0].rewards.shape
    return Comparison(
        arms=summaries,
        random=learning_curve(random, config.window),
        optimum=learning_curve(optimum, config.window),
        random_average=float(random.mean()),
        optimum_average=float(optimum.mean()),
        seeds=len(seeds),
        steps=steps,
        applicants=applicants,
    )


def _rewards(
    by_arm: dict[tuple[WarmStart, float, int], OnlineRun], agent: WarmStart, gamma: float, seeds: list[int]
) -> NDArray[np.float64]:
    """Mean reward over applicants: float64 [seeds, steps]."""
    if missing := [seed for seed in seeds if (agent, gamma, seed) not in by_arm]:
        raise InputError(f"the comparison lacks {agent} at gamma {gamma:g} for seeds {missing}: run the compare flow")
    return np.stack([by_arm[agent, gamma, seed].rewards.mean(axis=1, dtype=np.float64) for seed in seeds])
