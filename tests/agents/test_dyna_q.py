"""The agent: exact where a closed form exists, better than random where it must learn, the same for the same seed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.stages import agent_tensors
from dynaq.agents.trainer import learn
from dynaq.config import AgentConfig
from dynaq.mdp.candidates import CandidateSampler
from dynaq.mdp.environment import TrainingEnvironment
from dynaq.mdp.features import FeatureSpace
from tests.agents.conftest import TableReward, random_space


def train(
    space: FeatureSpace, table: Tensor, config: AgentConfig, steps: int, updates: int, seed: int = 0, rows: int = 64
) -> DynaQ:
    sampler = CandidateSampler(len(space.actions), config.candidates)
    agent = DynaQ(space, config, sampler, seed)
    environment = TrainingEnvironment(
        TableReward(table), torch.arange(len(table)), rows, sampler, torch.Generator().manual_seed(seed)
    )
    learn(agent, environment, steps, updates, lambda _: 1.0, seed)
    return agent


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.9])
def test_static_state_reaches_the_closed_form(agent_config: AgentConfig, gamma: float) -> None:
    """Q*(s, a) = R(s, a) + gamma / (1 - gamma) max R(s, .), to 0.001 where R is in [0, 1]."""
    table = torch.rand(6, 10, generator=torch.Generator().manual_seed(0))
    space = FeatureSpace(2 * torch.eye(6), 2 * torch.eye(10), (), 1)
    config = agent_config.model_copy(update={"gamma": gamma, "candidates": 10})
    agent = train(space, table, config, steps=300, updates=10)
    reached = agent.scores(torch.arange(6), torch.arange(10).expand(6, -1))
    closed_form = table + gamma / (1 - gamma) * table.max(dim=1, keepdim=True).values
    assert (reached - closed_form).abs().max() < 1e-3


@pytest.mark.parametrize("features", ["concat", "product"])
def test_learns_a_similarity_for_applicants_never_seen(agent_config: AgentConfig, features: str) -> None:
    space = random_space(300, 200)
    table = space.states @ space.actions.T / space.d
    config = agent_config.model_copy(update={"features": features, "gamma": 0.3, "planning_steps": 1})
    agent = train(space, table[:200], config, steps=80, updates=10)
    assert agent.skill > 0.5  # the world model has learnt too, and planning was at work
    new = torch.arange(200, 300)
    candidates = agent.sampler.draw(new)
    rewards = table[new[:, None], candidates]
    chosen = table[new, agent.act(new, candidates, epsilon=0.0).squeeze(1)].mean()
    assert chosen > 0.8 * rewards.max(dim=1).values.mean()
    assert chosen > rewards.mean() + 0.3


def test_same_seed_same_weights_and_another_seed_others(agent_config: AgentConfig) -> None:
    space = random_space(40, 30)
    table = torch.rand(40, 30, generator=torch.Generator().manual_seed(1))
    config = agent_config.model_copy(update={"dropout": 0.2, "planning_steps": 2})

    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(torch.seed() % 1000)  # whatever the global generator did before
        return agent_tensors(train(space, table, config, steps=5, updates=3, seed=seed))

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_model_without_skill_plans_nothing(agent_config: AgentConfig) -> None:
    """Rewards that are noise cannot be predicted on transitions kept aside, however well they are memorised."""
    space = random_space(60, 50)
    noise = torch.randn(60, 50, generator=torch.Generator().manual_seed(2))
    agent = train(space, noise, agent_config.model_copy(update={"planning_steps": 5}), steps=40, updates=20)
    assert agent.replay.size > 1000
    assert agent.skill < 0.1
    assert agent._planning_steps() <= 1


def test_missing_answers_teach_nothing(agent_config: AgentConfig) -> None:
    space = random_space(10, 10)
    agent = train(space, torch.full((10, 10), float("nan")), agent_config, steps=3, updates=2)
    assert agent.replay.size == 0
    assert agent.update() is None


def test_target_network_stands_still_between_synchronisations(agent_config: AgentConfig) -> None:
    space = random_space(20, 15)
    config = agent_config.model_copy(update={"gamma": 0.9, "target_sync": 4})
    agent = train(space, torch.rand(20, 15), config, steps=1, updates=4)  # ends on a synchronisation
    batch = agent.replay.at(torch.arange(8))
    before = agent.targets(batch)
    for _ in range(3):
        agent.update()
    assert torch.equal(agent.targets(batch), before)
    agent.update()
    assert not torch.equal(agent.targets(batch), before)


def test_a_new_phase_keeps_weights_and_forgets_experience(agent_config: AgentConfig) -> None:
    agent = train(random_space(20, 15), torch.rand(20, 15), agent_config, steps=3, updates=3)
    before = agent_tensors(agent)
    agent.start_phase()
    assert agent.replay.size == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in agent_tensors(agent).items())
