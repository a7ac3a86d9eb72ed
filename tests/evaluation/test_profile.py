"""What a recommender is like at one moment: a world model that knows the market lies on the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dynaq.agents.arms import Arm
from dynaq.agents.controls.random_choice import RandomChoice
from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.stages import new_agent
from dynaq.agents.trainer import learn
from dynaq.agents.world_model import Prediction
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.evaluation.market.environment import OnlineEnvironment
from dynaq.evaluation.market.world import World
from dynaq.evaluation.online import open_market
from dynaq.evaluation.panel import read_panel
from dynaq.evaluation.study.profile import profile
from tests.evaluation.online_toys import SEED, STEPS


class AllKnowing(DynaQ):
    """An agent whose world model is the market itself; it writes down what it was asked about."""

    market: OnlineEnvironment
    columns: np.ndarray

    def predict(self, applicants: Tensor, jobs: Tensor) -> Prediction:
        self.columns = np.searchsorted(self.market.everything()[0].numpy(), jobs.numpy())
        chances = torch.from_numpy(self.market.market.chances(self.columns)).flatten()
        return Prediction(chances, torch.zeros_like(chances), chances[:, None], torch.ones_like(chances)[:, None])


def test_who_knows_the_chances_of_what_is_left_lies_on_the_line(
    config: Config, small_snapshot: Snapshot, panel: Path
) -> None:
    read = read_panel(panel)
    market, chosen, _ = open_market(config, small_snapshot, read, World(), SEED)
    environment = OnlineEnvironment(market, read.applicants[chosen], read.jobs, 8, 1)
    learn(RandomChoice(1, 0), environment, STEPS, 0, lambda _: 1.0, SEED)
    agent = new_agent(config, small_snapshot, Arm("hybrid", 0.3, SEED), AllKnowing)
    assert isinstance(agent, AllKnowing)
    agent.market, agent.answers = environment, 1
    tenths = profile(agent, environment, {})["calibration"]
    assert [true for _, true in tenths] == pytest.approx([predicted for predicted, _ in tenths])
    assert market.gone.any()
    assert not np.take_along_axis(market.gone, agent.columns, axis=1).any()
