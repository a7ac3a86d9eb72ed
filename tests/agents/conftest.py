"""A tiny world: random vectors, and rewards from a table."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynaq.config import AgentConfig, load_config
from dynaq.mdp.features import FeatureSpace
from tests.paths import BASE_CONFIG


class TableReward:
    """Rewards looked up in float32 [N, M]."""

    name = "table"

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def __call__(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        return self.table[applicants, jobs]


@pytest.fixture
def agent_config() -> AgentConfig:
    config = load_config(BASE_CONFIG).agent
    return config.model_copy(update={"hidden": [64, 64], "batch_size": 64, "target_sync": 20, "planning_steps": 0})


def random_space(applicants: int, jobs: int, d: int = 16, seed: int = 0) -> FeatureSpace:
    """One field on either side, components of order 1, applicants near the jobs of one of four kinds."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(4, d, generator=generator)

    def rows(count: int) -> Tensor:
        around = kinds[torch.randint(4, (count,), generator=generator)]
        noisy = around + 0.7 * torch.randn(count, d, generator=generator)
        return torch.nn.functional.normalize(noisy, dim=1) * d**0.5

    return FeatureSpace(rows(applicants), rows(jobs), ((0, 0),), d)
