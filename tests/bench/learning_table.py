"""The learning table: how much of the best possible reward each agent reaches on held-out applicants and jobs.

    python -m tests.bench.learning_table --reward rule --seeds 10 --out FOLDER

Every agent asks for labels as it would in production: epsilon-greedy among 50 candidates, 32 applicants a step.
Seeds are paired: all agents of a seed see the same split and start from the same weights.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.maxima import fresh_values
from dynaq.agents.state import learned, load_learned
from dynaq.agents.trainer import learn
from dynaq.config import AgentConfig, Config
from dynaq.config_file import load_config
from dynaq.data.snapshot import latest_snapshot, open_snapshot
from dynaq.mdp.candidates import CandidateSampler
from dynaq.mdp.environment import TrainingEnvironment
from tests.bench.contenders import CONTENDERS, Contender, TwoTowers, WorldModelAlone
from tests.bench.worlds import Pairs, World, rule_pairs, stand_in_pairs

LABELS = (0, 64, 128, 256, 512, 1024, 2048, 4096)
PER_STEP, UPDATES, PRETRAINING_STEPS = 32, 10, 300
EPSILON = 0.1
TOWERS = "two towers at the cosine"


class Table:
    """A reward looked up."""

    name = "table"

    def __init__(self, rewards: torch.Tensor) -> None:
        self._rewards = rewards

    def __call__(self, applicants: torch.Tensor, jobs: torch.Tensor) -> torch.Tensor:
        return self._rewards[applicants, jobs]


def environment(world: World, rewards: torch.Tensor, agent: DynaQ, seed: int, per_step: int) -> TrainingEnvironment:
    pool = torch.arange(len(world.train.states))
    return TrainingEnvironment(Table(rewards), pool, per_step, agent.sampler, torch.Generator().manual_seed(seed))


def configured(base: AgentConfig, contender: Contender) -> AgentConfig:
    changes = {
        name: getattr(base, name).model_copy(update=value) if isinstance(value, dict) else value
        for name, value in contender.agent.items()
    }
    return base.model_copy(update=changes)


def reached(agent: DynaQ, world: World) -> float:
    """Greedy reward on the held-out side, where the agent's network meets vectors it has never seen."""
    test = world.test
    everything = torch.arange(len(test.actions)).expand(len(test.states), -1)
    if isinstance(agent, WorldModelAlone):
        return world.top_1(world_model_scores(agent, world, everything))
    agent.q.eval()
    with torch.no_grad():
        return world.top_1(fresh_values(agent.q, test.states, everything, test.actions))


def world_model_scores(agent: DynaQ, world: World, everything: torch.Tensor) -> torch.Tensor:
    elsewhere = copy.copy(agent.world_model)
    elsewhere._space = world.test
    of_states, of_actions = agent.world_model.bases
    elsewhere._states, elsewhere._actions = of_states(world.test.states), of_actions(world.test.actions)
    if (origin := agent.origin) is not None:
        elsewhere._prior = lambda a, j: origin(world.test.states[a], world.test.actions[j]).detach()
    rows = torch.arange(len(world.test.states)).repeat_interleave(everything.shape[1])
    return elsewhere.predict(rows, everything.flatten()).reward.reshape(everything.shape)


def pretrained(config: AgentConfig, world: World, seed: int) -> dict[str, torch.Tensor]:
    agent = DynaQ(world.train, config, CandidateSampler(len(world.train.actions), config.candidates), seed)
    learn(agent, environment(world, world.train_cosine, agent, seed, 128), PRETRAINING_STEPS, 5, lambda _: 0.5, seed)
    return {name: tensor.clone() for name, tensor in learned(agent).items()}


def run(
    config: AgentConfig, contender: Contender, world: World, seed: int, start: dict[str, torch.Tensor] | None
) -> list[float]:
    """Greedy reward after each number of LABELS."""
    agent = contender.kind(world.train, config, CandidateSampler(len(world.train.actions), config.candidates), seed)
    if start is not None:
        load_learned(agent, start, "pre-trained")
    agent.start_phase((1.0, 0.5, -0.1))
    there = environment(world, world.train_reward, agent, seed + 1, PER_STEP)
    marks = [reached(agent, world)]
    for before, after in pairwise(LABELS):
        learn(agent, there, (after - before) // PER_STEP, UPDATES, lambda _: EPSILON, seed + after)
        marks.append(reached(agent, world))
    return marks


def run_towers(world: World, seed: int) -> list[float]:
    """The peer under the same protocol: same labels a step, same updates, Adam."""
    chance = torch.Generator().manual_seed(seed)
    model = TwoTowers(world.train)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.no_grad():
        marks = [world.top_1(model(world.test.states, world.test.actions))]
    for step in range(LABELS[-1] // PER_STEP):
        applicants = torch.randperm(len(world.train.states), generator=chance)[:PER_STEP]
        candidates = torch.randint(len(world.train.actions), (PER_STEP, 50), generator=chance)
        with torch.no_grad():
            scores = model(world.train.states[applicants], world.train.actions).gather(1, candidates)
        explore = torch.rand(PER_STEP, generator=chance) < EPSILON
        place = torch.where(explore, torch.randint(50, (PER_STEP,), generator=chance), scores.argmax(1))
        kept.append((applicants, candidates.gather(1, place[:, None]).squeeze(1)))
        a, j = (torch.cat(parts) for parts in zip(*kept, strict=True))
        for _ in range(UPDATES):
            batch = torch.randint(len(a), (64,), generator=chance)
            predicted = model.of_pairs(world.train.states[a[batch]], world.train.actions[j[batch]])
            loss = ((predicted - world.train_reward[a[batch], j[batch]]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if (step + 1) * PER_STEP in LABELS:
            with torch.no_grad():
                marks.append(world.top_1(model(world.test.states, world.test.actions)))
    return marks


def run_seed(base: AgentConfig, pairs: Pairs, seed: int, names: Sequence[str]) -> dict[str, list[float]]:
    torch.set_num_threads(1)
    world = pairs.split(seed)
    starts: dict[str, dict[str, torch.Tensor]] = {}
    results = {"raw cosine": [world.top_1(world.test_cosine)] * len(LABELS)}
    for name in names:
        if name == TOWERS:
            results[name] = run_towers(world, seed)
            continue
        contender = CONTENDERS[name]
        config = configured(base, contender)
        # Contenders that learn alike share a start; planning has nothing to do with it.
        alike = config.model_copy(update={"planning": base.planning.model_copy(update={"steps": 0})})
        if contender.warm and (key := alike.model_dump_json()) not in starts:
            starts[key] = pretrained(alike, world, seed)
        results[name] = run(config, contender, world, seed, starts[key] if contender.warm else None)
    return results


def multiplier(ours: NDArray[np.float64], control: NDArray[np.float64]) -> float:
    """Labels the control needs for what ours reach, over the labels ours needed: geometric mean over the table.

    NaN where labels do not lift the control: then no number of them is worth another.

    Args:
        ours, control: mean reward after each of LABELS.
    """
    if control[-1] <= control[0]:
        return float("nan")
    labels = np.log2(np.array(LABELS[1:], dtype=float))
    control = np.maximum.accumulate(control[1:])
    needed = np.interp(ours[1:], control, labels, left=labels[0], right=labels[-1])
    return float(2 ** np.mean((needed - labels)[2:-1]))  # from 256 labels on, where neither end of the table binds


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95% of means of seeds drawn again with replacement."""
    draws = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[draws].mean(1), (0.025, 0.975))
    return float(low), float(high)


def summary(results: Sequence[dict[str, list[float]]]) -> str:
    """Markdown: the table, paired differences to no planning, and label multipliers."""
    names = list(results[0])
    table = {name: np.array([result[name] for result in results]) for name in names}
    lines = ["| agent | " + " | ".join(map(str, LABELS)) + " |", "|---" * (len(LABELS) + 1) + "|"]
    for name, rows in table.items():
        inside = name in CONTENDERS and CONTENDERS[name].inside
        cells = [
            f"{rows[:, k].mean():.3f} [{low:.3f}, {high:.3f}]"
            for k in range(len(LABELS))
            for low, high in [interval(rows[:, k])]
        ]
        lines.append(f"| {name}{' (cosine inside)' if inside else ''} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Paired differences, mean over 256 labels and more; label multiplier:",
        "",
        "| ours | control | difference | multiplier |",
        "|---|---|---|---|",
    ]
    for ours, control in (
        ("hybrid + planning", "hybrid, no planning"),
        ("hybrid + planning", "hybrid + replay, equal compute"),
        ("hybrid + 5 ungated", "hybrid, no planning"),
        ("scratch + planning", "scratch"),
        ("scratch + planning", "scratch + replay"),
        ("gamma .9", "hybrid, no planning"),
        ("gamma .9, centred", "hybrid, no planning"),
        ("gamma .9, closed form", "hybrid, no planning"),
    ):
        if ours in table and control in table:
            a, b = table[ours], table[control]
            difference = (a - b)[:, 3:].mean(1)
            draws = np.random.default_rng(0).integers(len(a), size=(2000, len(a)))
            multipliers = [multiplier(a[draw].mean(0), b[draw].mean(0)) for draw in draws]
            low, high = interval(difference)
            whole = multiplier(a.mean(0), b.mean(0))
            worst, best = np.nanquantile(multipliers, (0.025, 0.975)) if whole == whole else (whole, whole)
            factor = f"{whole:.2f} [{worst:.2f}, {best:.2f}]" if whole == whole else "labels do not lift the control"
            lines.append(f"| {ours} | {control} | {difference.mean():+.3f} [{low:+.3f}, {high:+.3f}] | {factor} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snapshot", type=Path, help="directory; by default the latest of the configuration")
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--reward", choices=["stand-in", "rule"], default="stand-in")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--applicants", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--only", nargs="*", default=[*CONTENDERS, TOWERS])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path(".dynaq/learning_table"))
    asked = parser.parse_args()
    overrides = {key: json.loads(value) for key, value in (item.split("=", 1) for item in asked.set)}
    config: Config = load_config(asked.config, overrides)
    snapshot = open_snapshot(asked.snapshot or latest_snapshot(config.work_path / "snapshots"))
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.reward == "rule":
        pairs = rule_pairs(snapshot, asked.applicants, asked.jobs, config.llm, correlation=0.38, seed=0)
    else:
        pairs = stand_in_pairs(snapshot, asked.applicants, asked.jobs, config.llm, asked.out)
    with ProcessPoolExecutor(config.processes) as pool:
        futures = [pool.submit(run_seed, config.agent, pairs, seed, asked.only) for seed in range(asked.seeds)]
        results = [future.result() for future in tqdm(futures, desc="learning table", unit=" seeds")]
    (asked.out / f"{asked.reward}.json").write_text(json.dumps(results) + "\n")
    (asked.out / f"{asked.reward}.md").write_text(summary(results))
    print(summary(results))


if __name__ == "__main__":
    main()
