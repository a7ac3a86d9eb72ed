"""From the runs of all contestants to the figures of a study."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynaq.agents.arms import WARM_STARTS
from dynaq.config import CompareConfig
from dynaq.errors import InputError
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.world import OWN, World
from dynaq.evaluation.online import OnlineRun
from dynaq.evaluation.study.metrics import Estimate, learning_curve, time_to_threshold
from dynaq.evaluation.study.statistics import (
    Difference,
    hierarchical,
    holm,
    interquartile_mean,
    label_multiplier,
    paired,
)
from dynaq.evaluation.study.study import Cell, Row, Study
from dynaq.evaluation.study.survival import Survival, survival

Runs = Mapping[int, OnlineRun]  # of one contestant in one world, by seed
Floats = NDArray[np.float64]


def summarise(runs: Sequence[OnlineRun], config: CompareConfig, gamma: float) -> Study:
    """Put all contestants side by side.

    Args:
        runs: every contestant of a world must have run the same seeds there.
        config: windows and thresholds.
        gamma: the configured discount.

    Raises:
        InputError: a contestant lacks a seed, or random choice, the optimum or a baseline is missing.
    """
    by_world: dict[World, dict[Contestant, dict[int, OnlineRun]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        by_world[run.world][run.contestant][run.seed] = run
    own = _complete(by_world.pop(World(OWN), {}))
    if missing := {Contestant(kind, gamma) for kind in ("random", "optimum", "baseline")} - own.keys():
        raise InputError(f"the comparison lacks {', '.join(sorted(each.name for each in missing))}")
    gains = {each: _gain(each, own, _averages) for each in own}
    adjusted = holm({each: gain.p_value for each, gain in gains.items() if gain and each.kind in WARM_STARTS})
    averages = {each.name: _averages(own[each]) for each in own if each.gamma == gamma}
    some = own[Contestant("random", gamma)]
    one = next(iter(some.values()))
    return Study(
        rows=[_row(each, own, gains[each], adjusted.get(each), config) for each in own],
        map=[
            cell for world in sorted(by_world, key=_place) for cell in _cells(world, _complete(by_world[world]), config)
        ],
        agreement=_means([run.agreement for run in some.values()]),
        planning=_planning(own, gamma),
        leads={(a, b): paired(averages[a], averages[b]) for a, b in combinations(averages, 2)},
        seeds=len(some),
        applicants=one.rewards.shape[1],
        jobs=one.jobs,
        steps=one.rewards.shape[0],
    )


def _complete(runs: Mapping[Contestant, Runs]) -> dict[Contestant, Runs]:
    """The same, seeds in order, if all have run the same ones."""
    seeds = sorted({seed for each in runs.values() for seed in each})
    for contestant, each in runs.items():
        if missing := [seed for seed in seeds if seed not in each]:
            raise InputError(f"the comparison lacks {contestant.name} for seeds {missing}: run the compare flow")
    return {contestant: {seed: each[seed] for seed in seeds} for contestant, each in runs.items()}


def _row(
    each: Contestant,
    own: Mapping[Contestant, Runs],
    gain: Difference | None,
    adjusted: float | None,
    config: CompareConfig,
) -> Row:
    runs = own[each]
    some, average = list(runs.values()), _averages(runs)
    ends = [run.profile["end"] for run in some]
    reached = [run.profile["launch"]["reached"] for run in some]
    calibrations = [end["calibration"] for end in ends if end["calibration"]]
    return Row(
        contestant=each,
        jump_start=hierarchical(_over(runs, slice(config.window))),
        average=hierarchical(average),
        late=hierarchical(_over(runs, slice(-config.late_steps, None))),
        late_known=hierarchical(_late_known(config)(runs)),
        known=learning_curve(_stacked(runs, lambda run: _share_of_the_way(run, axis=1)), 1),
        middle=interquartile_mean(average),
        regret=hierarchical(_stacked(runs, lambda run: (run.best - run.chances).mean(axis=0, dtype=np.float64))),
        cumulative=hierarchical(_stacked(runs, lambda run: run.rewards.sum(axis=0, dtype=np.float64))),
        gain=gain,
        late_gain=_gain(each, own, _late_known(config)),
        adjusted=adjusted,
        times={share: _times(runs, share, config.window) for share in config.thresholds},
        ndcg=tuple(hierarchical(np.stack([run.ndcg[k] for run in some])) for k in (0, 1)),  # type: ignore[arg-type]
        coverage=float(np.mean([end["coverage"] for end in ends])),
        diversity=float(np.mean([end["diversity"] for end in ends])),
        gini=float(np.mean([end["gini"] for end in ends])),
        reached=_means(reached),
        gap=_gap(some, reached),
        calibration=[(float(p), float(t)) for p, t in np.mean(calibrations, axis=0)] if calibrations else None,
        calibration_error=_off(calibrations) if len(calibrations) == len(some) else None,
        before=_means([run.before for run in some]),
        curve=learning_curve(_stacked(runs, lambda run: run.rewards.mean(axis=1, dtype=np.float64)), config.window),
    )


def _stacked(runs: Runs, of: Callable[[OnlineRun], Floats]) -> Floats:
    """A figure of every run, seeds first."""
    return np.stack([of(run) for run in runs.values()])


def _over(runs: Runs, steps: slice) -> Floats:
    """Mean reward of each applicant over some of the steps: float64 [S, A]."""
    return _stacked(runs, lambda run: run.rewards[steps].mean(axis=0, dtype=np.float64))


def _averages(runs: Runs) -> Floats:
    return _over(runs, slice(None))


def _share_of_the_way(run: OnlineRun, axis: int, steps: slice = slice(None)) -> Floats:
    """What would be shown at rest, 0 as a random and 1 as the best slate: over steps (axis 0) or applicants (1)."""
    knows, random, best = (
        values[steps].mean(axis=axis, dtype=np.float64) for values in (run.knows, run.knows_random, run.knows_best)
    )
    return np.asarray((knows - random) / (best - random))


def _late_known(config: CompareConfig) -> Callable[[Runs], Floats]:
    """Late on, for each applicant: [S, A]."""
    late = slice(-config.late_steps, None)
    return lambda runs: _stacked(runs, lambda run: _share_of_the_way(run, axis=0, steps=late))


def _gain(each: Contestant, own: Mapping[Contestant, Runs], figure: Callable[[Runs], Floats]) -> Difference | None:
    """Paired difference to the baseline of the same discount, or of the only one; None for a baseline."""
    if each.kind == "baseline":
        return None
    bases = [other for other in own if other.kind == "baseline"]
    base = next((other for other in bases if other.gamma == each.gamma), bases[0])
    return paired(figure(own[each]), figure(own[base]))


def _times(runs: Runs, share: float, window: int) -> Survival:
    """Until what would be shown at rest holds a share of the way from random choice to the optimum."""
    knows = _stacked(runs, lambda run: run.knows.mean(axis=1, dtype=np.float64))
    random = _stacked(runs, lambda run: run.knows_random.mean(axis=1, dtype=np.float64))
    best = _stacked(runs, lambda run: run.knows_best.mean(axis=1, dtype=np.float64))
    times = time_to_threshold(knows, random, best, window=window, share=share)
    return survival(times, knows.shape[1] - window + 1)


def _gap(runs: Sequence[OnlineRun], reached: Sequence[Mapping[str, float | None]]) -> Estimate | None:
    """Share of the best under the reward trained on last, less that under the market; None for the untrained."""
    if not runs[0].provenance:
        return None
    taught = runs[0].provenance[-1].split(":")[0]
    if taught not in reached[0] or any(each[taught] is None or each["market"] is None for each in reached):
        return None
    return hierarchical(np.array([[each[taught] - each["market"]] for each in reached], dtype=np.float64))  # type: ignore[operator]


def _off(calibrations: Sequence[Sequence[tuple[float, float]]]) -> Estimate:
    """Mean distance of predicted from true rates, seed by seed: what is too much in one does not mend another."""
    predicted, true = np.moveaxis(np.asarray(calibrations, dtype=np.float64), -1, 0)
    return hierarchical(np.abs(predicted - true))


def _cells(world: World, there: Mapping[Contestant, Runs], config: CompareConfig) -> list[Cell]:
    """The map's cells of one world, by rising budget."""
    late, cells = _late_known(config), []
    for labels in sorted({each.labels for each in there}):
        # Each arm as it is with so many labels: before the first, llm is a baseline and hybrid a cosine.
        arms = {each.kind: runs for each, runs in there.items() if each.labels == labels or not each.labels}
        averages = {kind: _averages(runs) for kind, runs in arms.items()}
        best, second, *_ = sorted(arms, key=lambda kind: -float(averages[kind].mean()))
        base = late(arms["baseline"])
        cells.append(
            Cell(
                world=world,
                labels=labels,
                averages={kind: hierarchical(values) for kind, values in averages.items()},
                best=best,
                second=second,
                lead=paired(averages[best], averages[second]),
                late={kind: paired(late(runs), base) for kind, runs in arms.items() if kind != "baseline"},
            )
        )
    return cells


def _place(world: World) -> tuple[str, float]:
    return world.towards, world.level


def _planning(own: Mapping[Contestant, Runs], gamma: float) -> Estimate | None:
    """Label multiplier of planning, where there are budgets enough to tell."""
    planned = {each.labels: runs for each, runs in own.items() if each.kind == "hybrid" and each.gamma == gamma}
    replayed = {each.labels: runs for each, runs in own.items() if each.kind == "no planning"}
    budgets = sorted(planned.keys() & replayed.keys())
    if len(budgets) < 3:
        return None
    ours, control = (
        np.stack([_averages(arm[labels]).mean(axis=1) for labels in budgets], axis=1) for arm in (planned, replayed)
    )
    return label_multiplier(ours, control, budgets)


def _means(each: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean of every figure over seeds; one that is None somewhere is left out."""
    names = [name for name in each[0] if all(one[name] is not None for one in each)]
    return {name: float(np.mean([one[name] for one in each])) for name in names}
