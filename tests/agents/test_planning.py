"""Planning: scaled by skill, fading with answers, pessimistic, and silent about what the ensemble disagrees on."""

from __future__ import annotations

import pytest
import torch

from dynaq.agents.dyna_q import DynaQ
from tests.agents.conftest import all_pairs, cosines, new_agent, random_space, small_config


def mean_planning_steps(agent: DynaQ) -> float:
    return sum(agent._planning_steps() for _ in range(400)) / 400


def test_planning_is_scaled_by_skill_and_fades_as_answers_come_in() -> None:
    agent = new_agent(random_space(8, 10), small_config(planning__steps=4, planning__half_after=1000))
    for skill, answers, expected in ((1, 0, 4), (0.5, 0, 2), (1, 1000, 2), (0.6, 3000, 0.6), (0.1, 0, 0.4)):
        agent.world_model.skill, agent.answers = skill, answers
        assert mean_planning_steps(agent) == pytest.approx(expected, abs=0.1)
    for skill in (0.0, -0.3, -50.0):
        agent.world_model.skill = skill
        assert mean_planning_steps(agent) == 0


def test_a_model_of_noise_plans_next_to_nothing() -> None:
    """Noise cannot be predicted on pairs kept aside, however well the others are memorised."""
    agent = new_agent(random_space(60, 50), small_config(planning__steps=5))
    agent.remember(*all_pairs(60, 50), torch.randn(3000, generator=torch.Generator().manual_seed(2)))
    assert agent.skill < 0.03
    assert mean_planning_steps(agent) < 0.1


def test_imagined_rewards_are_pessimistic_and_of_pairs_agreed_on() -> None:
    planning = {"planning__steps": 1, "planning__penalty": 0.7, "planning__rejected_share": 0.5}
    space = random_space(60, 50)
    agent = new_agent(space, small_config(batch_size=200, **planning))
    rows = torch.arange(0, 3000, 7)
    applicants, jobs = (side[rows] for side in all_pairs(30, 100))
    agent.remember(applicants, jobs % 50, cosines(space)[applicants, jobs % 50])
    imagined = agent._imagined().transitions
    answer = agent.world_model.predict(imagined.applicants, imagined.jobs)
    assert torch.allclose(imagined.rewards, answer.reward - 0.7 * answer.disagreement, atol=1e-6)
    assert len(imagined.rewards) == 200
    assert imagined.applicants.max() < 30  # those met before
    assert len(imagined.jobs.unique()) > 40  # and any job

    drawn = new_agent(space, agent.config)  # the same draws, none of them left out
    drawn.config = agent.config.model_copy(
        update={"batch_size": 400, "planning": agent.config.planning.model_copy(update={"rejected_share": 0.0})}
    )
    drawn.remember(applicants, jobs % 50, cosines(space)[applicants, jobs % 50])
    everything = drawn._imagined().transitions
    disagreement = drawn.world_model.predict(everything.applicants, everything.jobs).disagreement
    assert torch.allclose(answer.disagreement.sort().values, disagreement.sort().values[:200])
