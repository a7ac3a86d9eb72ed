"""A tiny world: random vectors, rewards from a table, and the base configuration with small networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dynaq.agents.dyna_q import DynaQ
from dynaq.config import AgentConfig
from dynaq.config_file import load_config
from dynaq.mdp.candidates import CandidateSampler
from dynaq.mdp.features import FeatureSpace
from tests.paths import BASE_CONFIG

SMALL = {"features": "concat", "hidden": [32, 32], "batch_size": 32, "target_sync": 10, "planning.steps": 0}
HISTORY = {"length": 3, "width": 8, "blocks": 1, "heads": 2}


class TableReward:
    """Rewards looked up in float32 [N, M]."""

    name = "table"

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        return self.table[applicants, jobs]


def small_config(**changes: Any) -> AgentConfig:
    """The agent of base.yaml, small, and without planning unless asked; ``__`` in a name stands for a dot."""
    knobs = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    # So that any replay and any pilot fits.
    fits = {"finetune.budgets": [10_000], "compare.applicants": 20, "compare.steps": 1000}
    fits |= {f"{stage}.applicants_per_step": 20 for stage in ("pretrain", "finetune")}
    return load_config(BASE_CONFIG, fits | {f"agent.{k}": v for k, v in knobs.items()}).agent


def new_agent(space: FeatureSpace, config: AgentConfig, seed: int = 0) -> DynaQ:
    return DynaQ(space, config, CandidateSampler(len(space.actions), config.candidates), seed)


def all_pairs(applicants: int, jobs: int) -> tuple[Tensor, Tensor]:
    """Every applicant with every job: int64 [N * M] each."""
    return torch.arange(applicants).repeat_interleave(jobs), torch.arange(jobs).repeat(applicants)


def random_space(applicants: int, jobs: int, d: int = 16, seed: int = 0) -> FeatureSpace:
    """One field on either side, components of order 1, applicants near the jobs of one of four kinds."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(4, d, generator=generator)

    def rows(count: int) -> Tensor:
        around = kinds[torch.randint(4, (count,), generator=generator)]
        noisy = around + 0.7 * torch.randn(count, d, generator=generator)
        return torch.nn.functional.normalize(noisy, dim=1) * d**0.5

    return FeatureSpace(rows(applicants), rows(jobs), ((0, 0),), d)


def cosines(space: FeatureSpace) -> Tensor:
    """Cosine of every applicant and job of a random space: float32 [N, M]."""
    return space.states @ space.actions.T / space.d
