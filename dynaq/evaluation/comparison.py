"""The comparison: every arm goes online in the same simulated market and keeps learning from interactions.

For one seed all arms meet the same held-out applicants, the same candidates at each step and the same luck, so their
differences are paired. The reward is +1 for an interaction and 0 for none, which no arm was trained on. What is random
in an arm besides (exploration, batches) follows its seed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynaq.agents.arms import Arm
from dynaq.agents.stages import json_curves, new_agent, one_thread, progress_path
from dynaq.agents.state import load_learned
from dynaq.agents.trainer import learn
from dynaq.artifacts import code_version, inputs_key, publish
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot, open_snapshot
from dynaq.data.splits import held_out
from dynaq.errors import ArtifactError
from dynaq.evaluation.simulator import SimulatedMarket
from dynaq.evaluation.traits import MarketTraits, read_traits
from dynaq.mdp.environment import Observation
from dynaq.tracking.checkpoint import load_checkpoint
from dynaq.tracking.progress import Progress

INTERACTION = (0.0, 1.0)  # the rewards of the online market: none, and an interaction


class SimulatedMarketEnvironment:
    """The held-out market as an environment: the same applicants at every step, and +1 for an interaction.

    Args:
        market: the hidden utilities.
        applicants: int64 [B], rows of the snapshot.
        n: candidates an applicant and step.
    """

    def __init__(self, market: SimulatedMarket, applicants: NDArray[np.int64], n: int) -> None:
        self._market = market
        self._applicants = applicants
        self._n = n
        self.answers: list[NDArray[np.float32]] = []

    def observe(self, step: int) -> Observation:
        """All applicants, with the candidates that every arm sees at this step."""
        candidates = self._market.candidates(step, self._applicants, self._n)
        return Observation(torch.from_numpy(self._applicants), torch.from_numpy(candidates))

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        """1 for an interaction, else 0; every answer is kept in ``answers``."""
        answers = self._market.interactions(step, applicants.numpy(), jobs.numpy())
        self.answers.append(answers)
        return torch.from_numpy(answers)

    def tensors(self) -> dict[str, Tensor]:
        """The answers so far; the market itself is a function of the step."""
        return {"answers": torch.from_numpy(np.stack(self.answers))}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave."""
        self.answers = list(tensors["answers"].numpy())


@dataclass(frozen=True)
class OnlineRun:
    """What one arm earned online.

    Attributes:
        arm: who.
        rewards: float32 [steps, applicants], mean answer over the slate.
        curves: training curves while online, by metric.
        labels: distinct LLM labels the arm had consumed before.
        provenance: rewards it had been trained on.
    """

    arm: Arm
    rewards: NDArray[np.float32]
    curves: dict[str, list[float | None]]
    labels: int
    provenance: list[str]


@dataclass(frozen=True)
class References:
    """Expected reward of the best and of a random choice among the same candidates: float64 [steps] for a seed."""

    random: NDArray[np.float64]
    optimum: NDArray[np.float64]


def run_online(config: Config, snapshot: Snapshot, arm: Arm, checkpoint: Path | None) -> Path:
    """Let one arm learn online, from its checkpoint or (baseline) from nothing; returns its result directory."""
    start = load_checkpoint(checkpoint, snapshot.manifest.digest) if checkpoint else None
    weights = start.manifest.weights if start else None
    agent_config = config.agent.model_dump() | {"gamma": arm.gamma}
    target = _online_path(config, snapshot, "online", arm=arm.name, agent=agent_config, weights=weights)
    if target.exists():
        return target
    market, applicants = _market(config, snapshot, arm.seed)
    with one_thread():
        agent = new_agent(config, snapshot, arm)
        if start:
            load_learned(agent, start.tensors, start.path.name)
        agent.start_phase(INTERACTION)
        environment = SimulatedMarketEnvironment(market, applicants, agent.sampler.n)
        online = config.compare
        curves = learn(
            agent,
            environment,
            online.steps,
            online.updates_per_step,
            lambda _: online.epsilon,
            arm.seed,
            progress_path(target),
        )
    rewards = np.stack(environment.answers).reshape(online.steps, len(applicants), -1).mean(2, dtype=np.float32)
    record = {
        "arm": asdict(arm),
        "curves": json_curves(curves),
        "labels": start.manifest.labels if start else 0,
        "provenance": start.manifest.rewards if start else [],
    }
    with publish(target) as directory:
        np.save(directory / "rewards.npy", rewards)
        (directory / "run.json").write_text(json.dumps(record, allow_nan=False) + "\n")
    Progress(progress_path(target)).forget()
    return target


def reference_rewards(config: Config, snapshot: Snapshot, seed: int) -> Path:
    """What the best and a random choice would earn in a seed's market; returns the result directory."""
    n = min(config.agent.candidates, snapshot.manifest.jobs)
    k = min(config.agent.slate, n)
    target = _online_path(config, snapshot, "reference", seed=seed, candidates=n, slate=k)
    if target.exists():
        return target
    market, applicants = _market(config, snapshot, seed)
    random, optimum = [], []
    for step in range(config.compare.steps):
        chances = market.interaction_probability(applicants, market.candidates(step, applicants, n))
        random.append(chances.mean(dtype=np.float64))
        optimum.append(np.sort(chances, axis=1)[:, -k:].mean(dtype=np.float64))
    with publish(target) as directory:
        np.savez(directory / "reference.npz", random=random, optimum=optimum)
    return target


def read_online(path: Path) -> OnlineRun:
    """Read what ``run_online`` wrote.

    Raises:
        ArtifactError: the directory is missing or damaged.
    """
    try:
        record: dict[str, Any] = json.loads((path / "run.json").read_text())
        rewards = np.load(path / "rewards.npy")
        return OnlineRun(Arm(**record["arm"]), rewards, record["curves"], record["labels"], record["provenance"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"online run {path} cannot be read ({error}); delete the directory to repeat it") from None


def read_references(path: Path) -> References:
    """Read what ``reference_rewards`` wrote; raises ArtifactError as ``read_online`` does."""
    try:
        with (path / "reference.npz").open("rb") as file, np.load(file) as arrays:
            return References(arrays["random"], arrays["optimum"])
    except (OSError, EOFError, BadZipFile, ValueError, KeyError) as error:
        raise ArtifactError(f"reference {path} cannot be read ({error}); delete the directory to repeat it") from None


def _market(config: Config, snapshot: Snapshot, seed: int) -> tuple[SimulatedMarket, NDArray[np.int64]]:
    """A seed's market, and the held-out applicants that come to it: int64 [B]."""
    aside = np.flatnonzero(held_out(snapshot.applicant_ids, config.split.held_out_share, config.seed))
    chosen = np.random.default_rng(seed).permutation(aside)[: config.compare.applicants]
    return SimulatedMarket(_traits(snapshot.path), seed), chosen


@lru_cache(maxsize=1)
def _traits(snapshot_path: Path) -> MarketTraits:
    """The slow part of a market, read once a process: it is the same for all arms and seeds of a snapshot."""
    snapshot = open_snapshot(snapshot_path)
    return read_traits(snapshot.applicant_texts, snapshot.job_texts, snapshot.applicant_ids, snapshot.job_ids)


def _online_path(config: Config, snapshot: Snapshot, kind: str, **inputs: Any) -> Path:
    key = inputs_key(
        snapshot=snapshot.manifest.digest,
        compare=config.compare.model_dump(exclude={"seeds", "threshold_share", "window", "late_share"}),
        split=config.split.model_dump(),
        seed_of_split=config.seed,
        code=code_version(),
        **inputs,
    )
    name = inputs.get("arm") or f"s{inputs['seed']}"
    return config.work_path / "online" / f"{kind}-{name}-{key}"
