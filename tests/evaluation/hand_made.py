"""A study written by hand: who gains what is said, and all else follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from dynaq.agents.arms import WARM_STARTS
from dynaq.evaluation.contestants import Contestant, contestants
from dynaq.evaluation.market.world import World
from dynaq.evaluation.study.metrics import Curve, Estimate
from dynaq.evaluation.study.statistics import Difference
from dynaq.evaluation.study.study import Cell, Row, Study
from dynaq.evaluation.study.survival import survival

GAMMA, SEEDS, STEPS, HALF = 0.3, 20, 40, 0.01  # HALF: of every interval
START, LATE = 0.15, 0.34  # of the baseline
BUDGETS = (50, 200, 1000, 5000)
SURE, UNSURE = 1e-6, 0.4  # p-values of what is above its interval, and of what is not


def estimate(mean: float, half: float = HALF) -> Estimate:
    return Estimate(mean, mean - half, mean + half)


def difference(mean: float) -> Difference:
    apart = abs(mean) > HALF
    improvement = 0.5 + 0.5 * float(np.sign(mean)) * apart
    return Difference(estimate(mean), SURE if apart else UNSURE, improvement, SEEDS)


def study(
    gains: Mapping[str, float],
    late: Mapping[str, float] | None = None,
    adjusted: Mapping[str, float] | None = None,
    *,
    gamma: float = GAMMA,
    budgets: Sequence[int] = BUDGETS,
    levels: Sequence[float] = (),
    seeds: int = SEEDS,
    applicants: int = 100,
) -> Study:
    """A study in which contestants gain so much over the baseline.

    Args:
        gains: by name of contestant (``hybrid, 200 labels``), else by kind; who is not named gains nothing.
        late: likewise, of what is known late on; half the gain where nothing is said.
        adjusted: likewise, p-values after Holm; where nothing is said, those that `difference` gives.
        gamma, budgets: as `contestants`; no budgets: labels cannot be trusted.
        levels: of the map, for both rewards; none: no map.
        seeds, applicants: told.
    """
    late, adjusted = late or {}, adjusted or {}
    everybody = contestants(gamma, list(budgets))
    own = {each: _named(gains, each, 0.0) for each in everybody}
    rows = [_row(each, own[each], _named(late, each, own[each] / 2), adjusted) for each in everybody]
    peers = [each for each in everybody if each.gamma == gamma]
    return Study(
        rows=rows,
        map=[
            _cell(World(towards, level), labels)
            for towards in ("cosine", "llm")
            for level in levels
            for labels in (0, *budgets)
            if level or towards == "cosine"
        ],
        agreement={"cosine": 0.31, "llm": 0.12} if budgets else {"cosine": 0.31},
        planning=Estimate(1.3, 0.9, 1.9) if budgets else None,
        leads={(a.name, b.name): difference(own[a] - own[b]) for a, b in combinations(peers, 2)},
        seeds=seeds,
        applicants=applicants,
        jobs=200,
        steps=STEPS,
    )


def _named(figures: Mapping[str, float], each: Contestant, otherwise: float) -> float:
    return figures.get(each.name, figures.get(each.kind, otherwise))


def curve_to(start: float, end: float, seed: int = 0) -> Curve:
    """From one level to another, a little uneven."""
    steps = np.arange(1, STEPS + 1)
    mean = end + (start - end) * np.exp(-steps / 15) + np.random.default_rng(seed).normal(0, 0.004, STEPS)
    half = 0.02 / np.sqrt(np.minimum(steps, 5))
    return Curve(steps, mean, mean - half, mean + half)


def _row(each: Contestant, gain: float, late: float, adjusted: Mapping[str, float]) -> Row:
    kind, agent = each.kind, each.kind in WARM_STARTS
    average = {"random": 0.1, "optimum": 0.6}.get(kind, 0.25 + gain)
    start, end = (average, average) if kind in ("random", "optimum") else (START + 2 * gain, LATE + late)
    curve = curve_to(start, end, sum(map(ord, each.slug)))
    gained = None if kind == "baseline" else difference(gain)
    trained = kind in ("cosine", "llm", "hybrid")
    reached = 0.15 + 1.5 * max(gain, 0.0)
    return Row(
        contestant=each,
        jump_start=estimate(start, 0.011),
        average=estimate(average),
        late=estimate(end, 0.012),
        late_known=estimate(end / 0.6, 0.02),
        middle=estimate(average + 0.001, 0.009),
        regret=estimate(0.6 - average, 0.008),
        cumulative=estimate(average * STEPS, HALF * STEPS),
        gain=gained,
        late_gain=None if kind == "baseline" else difference(late),
        adjusted=_named(adjusted, each, gained.p_value) if gained and agent else None,
        times={share: survival(_times(curve, 0.1 + share * 0.5), STEPS) for share in (0.4, 0.5)},
        ndcg=(estimate(0.3 + gain, 0.013), estimate(0.45 + gain, 0.014)),
        coverage=0.4 + gain,
        diversity=0.6 - gain,
        gini=0.5 + gain,
        reached={"market": reached, "cosine": 0.9 * trained, "llm": 0.5 * trained},
        gap=estimate(0.9 - reached) if trained else None,
        calibration=[(rate / 20, rate / (20 + 9 * gain * rate) + 0.01) for rate in range(1, 11)] if agent else None,
        calibration_error=estimate(0.02 + gain / 10, 0.003) if agent else None,
        before={"labels": each.labels, "tokens": 310.0 * each.labels, "gradient_steps": 500.0 + 2 * each.labels},
        curve=curve,
        known=curve_to(2 * start, LATE + late, sum(map(ord, each.slug))),
    )


def _times(curve: Curve, threshold: float) -> list[int | None]:
    """When each of the seeds gets there, one sooner than the other."""
    found = np.flatnonzero(curve.mean >= threshold)
    if not len(found):
        return [None] * SEEDS
    steps = int(found[0]) + 1 + np.arange(SEEDS)
    return [int(step) if step <= STEPS else None for step in steps]


def _cell(world: World, labels: int) -> Cell:
    """Cosine earns by its agreement, llm and hybrid by theirs and by their labels."""
    taught = 0.1 * np.log10(1 + labels) / np.log10(5001)
    earned = {"baseline": 0.25, "cosine": 0.25 + 0.08 * world.level * (world.towards == "cosine")}
    if labels:
        towards_llm = world.level * (world.towards == "llm")
        earned["llm"] = 0.25 + taught * towards_llm
        earned["hybrid"] = 0.75 * earned["cosine"] + 0.25 * 0.25 + 1.1 * taught * towards_llm
    best, second = sorted(earned, key=lambda name: -earned[name])[:2]
    averages = {name: estimate(float(value)) for name, value in earned.items()}
    late = {name: difference(float(value - 0.25) / 2) for name, value in earned.items() if name != "baseline"}
    return Cell(world, labels, averages, best, second, difference(float(earned[best] - earned[second])), late)
