"""The table of questions: how far each way of choosing the pairs to ask about takes an agent on the same labels.

    python -m tests.bench.active_table --reward rule --seeds 5 --out FOLDER

All agents of a seed start from one network, pre-trained on the cosine, and see the same split; only the questions of
the fine-tuning differ. Rewards of the test side are looked at for measuring, never for asking.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from tqdm import tqdm

from dynaq.agents.acquisition import chooser
from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.state import load_learned
from dynaq.agents.trainer import learn
from dynaq.config import AgentConfig, AskConfig, Config
from dynaq.config_file import load_config
from dynaq.data.snapshot import latest_snapshot, open_snapshot
from dynaq.mdp.candidates import CandidateSampler
from tests.bench.learning_table import EPSILON, PER_STEP, UPDATES, environment, interval, pretrained, reached
from tests.bench.worlds import Pairs, World, rule_pairs, stand_in_pairs

STRATEGIES: tuple[str, ...] = get_args(AskConfig.model_fields["strategy"].annotation)
GRID = np.arange(0, 2049, 64)  # labels after which an agent is measured
SHOWN = (0, 128, 256, 512, 1024, 2000)
GOAL = 2000  # whoever gets with fewer labels where uniform questions get with so many has saved some

Curves = dict[str, NDArray[np.float64]]  # by strategy: float64 [seeds, len(GRID)]


def run(agent: AgentConfig, ask: AskConfig, world: World, seed: int, start: dict[str, torch.Tensor]) -> list[float]:
    """Greedy held-out reward after each number of labels of GRID."""
    ours = DynaQ(world.train, agent, CandidateSampler(len(world.train.actions), agent.candidates), seed)
    load_learned(ours, start, "pre-trained")
    ours.start_phase((1.0, 0.5, -0.1))
    wider = 1 if ask.strategy == "policy" else ask.pool
    there = environment(world, world.train_reward, ours, seed + 1, PER_STEP * wider)
    choose = chooser(ask, PER_STEP)
    marks = [reached(ours, world)]
    for labels in GRID[1:].tolist():
        steps = (labels - ours.answers) // PER_STEP
        learn(ours, there, steps, UPDATES, lambda _: EPSILON, seed + labels, choose=choose)
        marks.append(reached(ours, world))
    return marks


def run_seed(
    agent: AgentConfig, ask: AskConfig, pairs: Pairs, seed: int, strategies: Sequence[str]
) -> dict[str, list[float]]:
    torch.set_num_threads(1)
    world = pairs.split(seed)
    start = pretrained(agent, world, seed)
    return {name: run(agent, ask.model_copy(update={"strategy": name}), world, seed, start) for name in strategies}


def monotone(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of curves [seeds, len(GRID)], made to rise: of a wobbling one, the first crossing is luck."""
    return np.asarray(isotonic_regression(curves.mean(0)).x)


def needed(ours: NDArray[np.float64], uniform: NDArray[np.float64]) -> float:
    """Labels with which ours reach what uniform questions reach with GOAL; infinite if not with GOAL either."""
    mean = monotone(ours)
    goal = np.interp(GOAL, GRID, monotone(uniform))
    if mean[0] >= goal:
        return 0.0
    if np.interp(GOAL, GRID, mean) < goal:
        return float("inf")
    after = int((mean >= goal).argmax())
    share = (goal - mean[after - 1]) / (mean[after] - mean[after - 1])
    return float(GRID[after - 1] + share * (GRID[after] - GRID[after - 1]))


def needed_interval(ours: NDArray[np.float64], uniform: NDArray[np.float64]) -> tuple[float, float]:
    """95% of what ``needed`` is with seeds drawn again, the same for both; the ends may be infinite."""
    draws = np.random.default_rng(0).integers(len(ours), size=(1000, len(ours)))
    values = np.array([needed(ours[draw], uniform[draw]) for draw in draws])
    low, high = np.quantile(values, (0.025, 0.975), method="nearest")
    return float(low), float(high)


def labels_text(labels: float) -> str:
    return f"> {GOAL:,}" if np.isinf(labels) else f"{labels:,.0f}"


def summary(curves: Curves) -> str:
    """Markdown: rewards, paired differences to uniform questions, and the labels needed."""
    at = {name: np.array([np.interp(SHOWN, GRID, row) for row in rows]) for name, rows in curves.items()}
    lines = ["| strategy | " + " | ".join(f"{labels:,}" for labels in SHOWN) + " |", "|---" * (len(SHOWN) + 1) + "|"]
    for name, rows in at.items():
        cells = [f"{cell.mean():.3f} [{low:.3f}, {high:.3f}]" for cell in rows.T for low, high in [interval(cell)]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if "uniform" not in curves:
        return "\n".join(lines) + "\n"
    lines += [
        "",
        f"Against uniform questions of the same seeds: mean difference over 64 to {GRID[-1]:,} labels,"
        f" and labels needed to reach what uniform questions reach with {GOAL:,}:",
        "",
        "| strategy | difference | labels needed |",
        "|---|---|---|",
    ]
    for name, rows in curves.items():
        difference = (rows - curves["uniform"])[:, 1:].mean(1)
        low, high = interval(difference)
        few, many = needed_interval(rows, curves["uniform"])
        lines.append(
            f"| {name} | {difference.mean():+.3f} [{low:+.3f}, {high:+.3f}] |"
            f" {labels_text(needed(rows, curves['uniform']))} [{labels_text(few)}, {labels_text(many)}] |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snapshot", type=Path, help="directory; by default the latest of the configuration")
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--reward", choices=["stand-in", "rule"], default="stand-in")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help="tune on seeds from 100, report those from 0")
    parser.add_argument("--applicants", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--only", nargs="*", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path(".dynaq/active_table"))
    asked = parser.parse_args()
    overrides = {key: json.loads(value) for key, value in (item.split("=", 1) for item in asked.set)}
    config: Config = load_config(asked.config, overrides)
    snapshot = open_snapshot(asked.snapshot or latest_snapshot(config.work_path / "snapshots"))
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.reward == "rule":
        pairs = rule_pairs(snapshot, asked.applicants, asked.jobs, config.llm, correlation=0.38, seed=0)
    else:
        pairs = stand_in_pairs(snapshot, asked.applicants, asked.jobs, config.llm, asked.out)
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    with ProcessPoolExecutor(config.processes) as pool:
        futures = [pool.submit(run_seed, config.agent, config.finetune.ask, pairs, s, asked.only) for s in seeds]
        results = [future.result() for future in tqdm(futures, desc="active table", unit=" seeds")]
    curves = {name: np.array([result[name] for result in results]) for name in asked.only}
    (asked.out / f"active-{asked.reward}.json").write_text(json.dumps(results) + "\n")
    (asked.out / f"active-{asked.reward}.md").write_text(summary(curves))
    print(summary(curves))


if __name__ == "__main__":
    main()
