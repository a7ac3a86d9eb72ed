"""The panel: held-out applicants and jobs among whom agents are judged, and what every training reward says of them.

Nobody on it was trained on, nor a near-duplicate. The rewards are numbers here: the market may be told to agree with
one (dial.py), and a report can say how far agents have learned what they were taught. They are seen by no agent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dynaq.agents.stages import split_of
from dynaq.artifacts import code_version, finished, inputs_key, publish, readable
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import InputError
from dynaq.protocols import RewardSource
from dynaq.rewards.cosine import CosineReward

_CROWD = 2  # times the applicants of a market: so many at most are on the panel, from whom each seed draws its own
_BLOCK = 2000  # pairs asked about at once


@dataclass(frozen=True)
class Panel:
    """Rows of the snapshot, and training rewards of all their pairs.

    Attributes:
        applicants: int64 [P].
        jobs: int64 [J].
        rewards: float32 [P, J] by name, cosine and perhaps llm.
        missing: pairs without a label, by reward; they were given the mean.
        path: where it lies; its name is its digest.
    """

    applicants: NDArray[np.int64]
    jobs: NDArray[np.int64]
    rewards: dict[str, NDArray[np.float32]]
    missing: dict[str, int]
    path: Path


def candidates_without_repeats(config: Config, jobs: int) -> int:
    """How many candidates there are at every step, however often an applicant interacts: at most ``agent.candidates``.

    Args:
        config: steps and slates.
        jobs: of the market.

    Raises:
        InputError: too few are left for a choice.
    """
    n = min(config.agent.candidates, jobs - config.compare.steps * config.agent.slate)
    if n < config.agent.slate + 1:
        raise InputError(
            f"{jobs} jobs are held out, too few for {config.compare.steps} steps without repeats: raise split.jobs and"
            " compare.jobs, or lower compare.steps"
        )
    return n


def check_panel(config: Config, snapshot: Snapshot) -> None:
    """Raise InputError before anything is trained where too few jobs are held out to compare on."""
    candidates_without_repeats(config, min(config.compare.jobs, len(split_of(config, snapshot).held_out_jobs)))


class PanelReward:
    """A training reward looked up on the panel: a RewardSource for its pairs only."""

    def __init__(self, panel: Panel, name: str) -> None:
        """Of one of the panel's rewards."""
        self.name = name
        self._panel = panel

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """Rewards of pairs of rows of the snapshot, int64 [B], [B] -> float32 [B]."""
        rows = np.searchsorted(self._panel.applicants, applicants.numpy())
        return torch.from_numpy(self._panel.rewards[self.name][rows, np.searchsorted(self._panel.jobs, jobs.numpy())])


def make_panel(config: Config, snapshot: Snapshot, llm: RewardSource | None, asked: dict[str, Any]) -> Path:
    """Draw the panel and collect every training reward on it; returns its directory.

    Args:
        config, snapshot: whose held-out side.
        llm: labels of an LLM, on an account that is no agent's; None to leave it out.
        asked: what decides those labels, for the name of the directory.

    Raises:
        LabelError, TransientError: labels cannot be had; those already paid for are stored.
    """
    size = {"applicants": config.compare.applicants, "jobs": config.compare.jobs}
    key = inputs_key(
        snapshot=snapshot.manifest.digest,
        split=config.split.model_dump(),
        seed=config.seed,
        size=size,
        llm=asked if llm else None,
        fresh=config.fresh,
        code=code_version(),
    )
    target = config.work_path / "panels" / key
    if finished(target, config.work_path):
        return target
    split, chance = split_of(config, snapshot), np.random.default_rng(config.seed)
    applicants = np.sort(chance.permutation(split.held_out_applicants)[: _CROWD * size["applicants"]])
    jobs = np.sort(chance.permutation(split.held_out_jobs)[: size["jobs"]])
    rewards = {"cosine": _matrix(CosineReward(snapshot), applicants, jobs)}
    if llm:
        rewards["llm"] = _matrix(llm, applicants, jobs)
    missing = {name: int(np.isnan(values).sum()) for name, values in rewards.items()}
    for values in rewards.values():
        values[np.isnan(values)] = np.nanmean(values)
    with publish(target) as directory:
        np.savez(directory / "panel.npz", applicants=applicants, jobs=jobs, **rewards)  # type: ignore[arg-type]
        (directory / "missing.json").write_text(json.dumps(missing) + "\n")
    return target


def read_panel(path: Path) -> Panel:
    """Read what ``make_panel`` wrote.

    Raises:
        ArtifactError: the directory is missing or damaged.
    """
    with readable("panel", path):
        missing = json.loads((path / "missing.json").read_text())
        with (path / "panel.npz").open("rb") as file, np.load(file) as arrays:
            rewards = {name: arrays[name] for name in missing}
            return Panel(arrays["applicants"], arrays["jobs"], rewards, missing, path)


def _matrix(reward: RewardSource, applicants: NDArray[np.int64], jobs: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rewards of all pairs, applicant by applicant, as prompt caches like it: float32 [P, J]."""
    blocks = np.array_split(applicants, -(-applicants.size * jobs.size // _BLOCK))
    columns, found = torch.from_numpy(jobs), []
    for block in tqdm(blocks, desc=f"panel: {reward.name}", unit=" blocks", mininterval=1, disable=None):
        rows = torch.from_numpy(block).repeat_interleave(len(jobs))
        found.append(reward(rows, columns.repeat(len(block))).numpy().reshape(len(block), -1))
    return np.concatenate(found)
