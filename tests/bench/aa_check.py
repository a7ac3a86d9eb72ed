"""The A/A check: two copies of one agent under different seeds differ significantly as often as intervals promise.

    python -m tests.bench.aa_check --snapshot FOLDER --comparisons 200

Each comparison has seeds of its own. Both copies meet the same markets and differ in weights and exploration only, so
every difference is chance: of 95% intervals about 5% exclude zero. Agents are small, and start from nothing.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dynaq.agents.arms import Arm
from dynaq.agents.stages import new_agent, one_thread
from dynaq.agents.trainer import learn
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.snapshot import latest_snapshot, open_snapshot
from dynaq.evaluation.market.environment import INTERACTION, OnlineEnvironment
from dynaq.evaluation.market.world import World
from dynaq.evaluation.online import open_market
from dynaq.evaluation.panel import make_panel, read_panel
from dynaq.evaluation.study.statistics import interquartile_mean, paired
from dynaq.mdp.candidates import CandidateSampler

SEEDS = 8  # of one comparison
SMALL = {
    "agent.hidden": [16],
    "agent.batch_size": 32,
    "agent.planning.steps": 0,
    "agent.hand_over.pilot": 10,
    "agent.features": "concat",
    "compare.applicants": 25,
    "compare.jobs": 100,
    "compare.steps": 20,
    "compare.updates_per_step": 6,
}


def earned(
    config: Config, snapshot_path: Path, panel_path: Path, market_seed: int, agent_seed: int
) -> NDArray[np.float64]:
    """Mean reward of each applicant: float64 [A]."""
    snapshot, panel = open_snapshot(snapshot_path), read_panel(panel_path)
    market, chosen, _ = open_market(config, snapshot, panel, World(), market_seed)
    with one_thread():
        environment = OnlineEnvironment(market, panel.applicants[chosen], panel.jobs, 20, 1)
        agent = new_agent(config, snapshot, Arm("baseline", 0.0, agent_seed))
        agent.sampler = CandidateSampler(len(panel.jobs), 20, torch.from_numpy(panel.jobs))
        agent.start_phase(INTERACTION)
        learn(agent, environment, config.compare.steps, config.compare.updates_per_step, lambda _: 0.05, agent_seed)
    return environment.record()["rewards"].mean(axis=0, dtype=np.float64)


def compare(config: Config, snapshot: Path, panel: Path, number: int) -> tuple[bool, bool]:
    """Whether the interval of one comparison excludes zero: of the mean, of the interquartile mean."""
    torch.set_num_threads(1)
    seeds = range(number * SEEDS, (number + 1) * SEEDS)
    ours, theirs = (
        np.stack([earned(config, snapshot, panel, seed, 2 * seed + copy) for seed in seeds]) for copy in (0, 1)
    )
    mean, middle = paired(ours, theirs).difference, interquartile_mean(ours - theirs)
    return not mean.low <= 0 <= mean.high, not middle.low <= 0 <= middle.high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--snapshot", type=Path, help="a snapshot's directory (default: the latest of the config)")
    parser.add_argument("--comparisons", type=int, default=200)
    asked = parser.parse_args()
    with TemporaryDirectory() as workdir, ProcessPoolExecutor() as pool:
        snapshot = asked.snapshot or latest_snapshot(load_config(asked.config).work_path / "snapshots")
        config = load_config(asked.config, {**SMALL, "workdir": workdir})
        panel = make_panel(config, open_snapshot(snapshot), None, {})
        futures = [pool.submit(compare, config, snapshot, panel, number) for number in range(asked.comparisons)]
        found = [future.result() for future in tqdm(futures, desc="A/A", unit=" comparisons")]
    for name, excluded in zip(("mean", "interquartile mean"), np.array(found).T, strict=True):
        print(f"{name}: zero excluded in {excluded.sum()} of {len(excluded)} comparisons, {100 * excluded.mean():.1f}%")


if __name__ == "__main__":
    main()
