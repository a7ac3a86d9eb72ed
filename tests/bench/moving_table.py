"""Moving states: a market whose interests drift and tire, where a state with a memory and planning may pay.

    python -m tests.bench.moving_table --seeds 10 --out FOLDER

Vectors are drawn at random, so that nothing but the market's own tastes is there to be learned.
Share of the way from a random to the best choice that answers earn while the agent learns, in windows of answers.
Seeds are paired: all agents of a seed meet the same applicants, candidates and luck.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from dynaq.agents.trainer import learn
from dynaq.config import Config, HistoryConfig
from dynaq.config_file import load_config
from dynaq.mdp.candidates import CandidateSampler
from dynaq.mdp.drifting import DriftingEnvironment
from dynaq.mdp.environment import Observation
from dynaq.mdp.features import FeatureSpace
from tests.bench.contenders import Contender, ReplayControl
from tests.bench.learning_table import configured, interval

PER_STEP, UPDATES = 32, 5
CANDIDATES = 15
MARKETS = {  # drift, fatigue, no repeats
    "drifting": (1.0, 0.5, False),
    "drifting, no repeats": (1.0, 0.5, True),
    "static": (0.0, 0.0, False),
}
_HISTORY = HistoryConfig(length=10, width=32, blocks=1, heads=2)
_PLANNED, _UNPLANNED = {"steps": 2}, {"steps": 0}
CONTENDERS = {
    "static state": Contender(agent={"planning": _UNPLANNED}),
    "static state + planning": Contender(agent={"planning": _PLANNED}),
    "static state + replay": Contender(ReplayControl, agent={"planning": _PLANNED}),
    "SASRec": Contender(agent={"planning": _UNPLANNED, "history": _HISTORY}),
    "SASRec + planning": Contender(agent={"planning": _PLANNED, "history": _HISTORY}),
    "SASRec + replay": Contender(ReplayControl, agent={"planning": _PLANNED, "history": _HISTORY}),
}
PAIRS = (
    ("SASRec", "static state"),
    ("SASRec + planning", "SASRec"),
    ("SASRec + planning", "SASRec + replay"),
    ("static state + planning", "static state"),
    ("static state + planning", "static state + replay"),
)


class Watched:
    """The market, noting at each step what the best and a random choice would have earned."""

    def __init__(self, market: DriftingEnvironment) -> None:
        self._market = market
        self.bounds: list[tuple[float, float]] = []
        self.chosen: list[float] = []

    def observe(self, step: int) -> Observation:
        seen = self._market.observe(step)
        self.bounds.append(self._market.bounds(seen))
        return seen

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        self.chosen.append(float(self._market.expected(applicants, jobs[:, None]).mean()))
        return self._market.rewards(step, applicants, jobs)

    def tensors(self) -> dict[str, Tensor]:
        return self._market.tensors()

    def load(self, tensors: dict[str, Tensor]) -> None:
        self._market.load(tensors)


def spread_space(seed: int) -> FeatureSpace:
    """300 applicants and 600 jobs in every direction of 16 dimensions."""
    chance = torch.Generator().manual_seed(seed)
    states, actions = torch.randn(300, 16, generator=chance), torch.randn(600, 16, generator=chance)
    return FeatureSpace(4 * F.normalize(states, dim=1), 4 * F.normalize(actions, dim=1), ((0, 0),), 16)


def run_seed(config: Config, market: str, steps: int, names: Sequence[str], seed: int) -> dict[str, list[float]]:
    """Share of the way to the optimum, step by step, by contender."""
    torch.set_num_threads(1)
    space = spread_space(seed)
    drift, fatigue, no_repeats = MARKETS[market]
    whole = config.agent.world_model.model_copy(update={"state_components": 16, "action_components": 16})
    results = {}
    for name in names:
        contender = CONTENDERS[name]
        changes = {"candidates": CANDIDATES, "world_model": whole}
        changed = configured(config.agent, contender).model_copy(update=changes)
        if no_repeats:
            changed = changed.model_copy(update={"applied_from": config.llm.values.apply})
        pool = torch.arange(len(space.states))
        there = Watched(
            DriftingEnvironment(
                space, pool, PER_STEP, changed.candidates, config.llm.values, drift, fatigue, no_repeats, seed
            )
        )
        agent = contender.kind(space, changed, CandidateSampler(len(space.actions), changed.candidates), seed)
        values = config.llm.values
        agent.start_phase((values.apply, values.save, values.ignore))
        learn(agent, there, steps, UPDATES, lambda _: 0.1, seed)
        results[name] = [
            (chosen - random) / (best - random)
            for chosen, (best, random) in zip(there.chosen, there.bounds, strict=True)
        ]
    return results


def multiplier(ours: NDArray[np.float64], control: NDArray[np.float64]) -> float:
    """Answers the control needs for what ours earn, over those ours needed: geometric mean over the second quarter.

    Args:
        ours, control: mean share at each step.
    """
    kernel = np.ones(16) / 16
    smooth, reference = (np.convolve(curve, kernel, mode="valid") for curve in (ours, control))
    reference = np.maximum.accumulate(reference)
    steps = np.arange(len(smooth)) + 16.0
    half = len(steps) // 4, len(steps) // 2
    needed = np.interp(smooth, reference, steps, left=steps[0], right=steps[-1])
    return float(np.exp(np.mean(np.log(needed / steps)[half[0] : half[1]])))


def summary(results: dict[str, list[dict[str, list[float]]]]) -> str:
    lines = []
    for market, seeds in results.items():
        table = {name: np.array([seed[name] for seed in seeds]) for name in seeds[0]}
        steps = len(next(iter(seeds[0].values())))
        spans = list(pairwise((0, steps // 4, steps // 2, steps)))
        heads = [f"{a * PER_STEP}-{b * PER_STEP}" for a, b in spans]
        lines += ["", f"**{market}**", "", "| agent | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for name, rows in table.items():
            means = [rows[:, a:b].mean(1) for a, b in spans]
            lines.append(
                f"| {name} | "
                + " | ".join(f"{m.mean():.3f} [{interval(m)[0]:.3f}, {interval(m)[1]:.3f}]" for m in means)
                + " |"
            )
        lines += ["", "| ours | control | difference, last window | label multiplier |", "|---|---|---|---|"]
        for ours, control in PAIRS:
            if ours not in table or control not in table:
                continue
            a, b = table[ours], table[control]
            difference = (a - b)[:, spans[-1][0] :].mean(1)
            draws = np.random.default_rng(0).integers(len(a), size=(1000, len(a)))
            low, high = np.quantile([multiplier(a[d].mean(0), b[d].mean(0)) for d in draws], (0.025, 0.975))
            whole, (least, most) = multiplier(a.mean(0), b.mean(0)), interval(difference)
            lines.append(
                f"| {ours} | {control} | {difference.mean():+.3f} [{least:+.3f}, {most:+.3f}] |"
                f" {whole:.2f} [{low:.2f}, {high:.2f}] |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--markets", nargs="*", default=list(MARKETS))
    parser.add_argument("--agents", nargs="*", default=list(CONTENDERS))
    parser.add_argument("--steps", type=int, default=128, help=f"of {PER_STEP} answers each")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path(".dynaq/moving_table"))
    asked = parser.parse_args()
    overrides = {key: json.loads(value) for key, value in (item.split("=", 1) for item in asked.set)}
    config = load_config(asked.config, overrides)
    asked.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(config.processes) as pool:
        futures = {
            (m, s): pool.submit(run_seed, config, m, asked.steps, asked.agents, s)
            for m in asked.markets
            for s in range(asked.seeds)
        }
        done = {key: future.result() for key, future in tqdm(futures.items(), desc="moving table", unit=" runs")}
    results = {m: [done[m, s] for s in range(asked.seeds)] for m in asked.markets}
    (asked.out / "moving.json").write_text(json.dumps(results) + "\n")
    (asked.out / "moving.md").write_text(summary(results))
    print(summary(results))


if __name__ == "__main__":
    main()
