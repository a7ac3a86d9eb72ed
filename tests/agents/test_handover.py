"""The hand-over: the line by hand, and an agent that speaks on the scale of a new reward before it learns from it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.handover import Pilot, implied_rewards, pull_to_warm_start
from dynaq.agents.targets import closed_form
from dynaq.mdp.features import FeatureSpace
from tests.agents.conftest import all_pairs, new_agent, random_space, small_config


def pilot(predicted: list[float], answered: list[float], spread: float) -> Pilot:
    filled = Pilot(len(predicted), spread=spread)
    filled.add(torch.tensor(predicted), torch.tensor(answered))
    return filled


def test_without_a_spread_it_is_the_least_squares_line() -> None:
    slope, shift = pilot([0.0, 1.0, 2.0], [1.0, 2.0, 6.0], spread=0.0).line()
    assert (slope, shift) == pytest.approx((2.5, 0.5))


def test_the_slope_is_a_ridge_regression_towards_one() -> None:
    """The prior is one more observation of slope 1, as heavy as 32 answers that lie as far apart as random pairs."""
    generator = torch.Generator().manual_seed(0)
    predicted = 0.4 + 0.1 * torch.rand(50, generator=generator)
    answered = 3 * predicted - 0.9 + 0.1 * torch.randn(50, generator=generator)
    spread = 0.02
    x = torch.cat([predicted - predicted.mean(), torch.tensor([(32 * spread) ** 0.5])])
    y = torch.cat([answered - answered.mean(), torch.tensor([(32 * spread) ** 0.5])])
    expected = torch.linalg.lstsq(x[:, None].double(), y[:, None].double()).solution.item()
    slope, shift = pilot(predicted.tolist(), answered.tolist(), spread).line()
    assert slope == pytest.approx(expected, rel=1e-5)
    assert 1 < slope < 3
    assert slope * float(predicted.mean()) + shift == pytest.approx(float(answered.mean()), abs=1e-6)


@pytest.mark.parametrize("predicted", [[0.5] * 4, [0.5]])
def test_predictions_that_are_all_alike_are_only_shifted(predicted: list[float]) -> None:
    assert pilot(predicted, [0.2] * len(predicted), spread=0.0).line() == pytest.approx((1.0, -0.3))


def test_a_pilot_that_contradicts_the_warm_start_flattens_it() -> None:
    slope, shift = pilot([0.0, 1.0, 2.0], [2.0, 1.0, 0.0], spread=0.001).line()
    assert (slope, shift) == pytest.approx((0.1, 0.9))


def test_missing_answers_do_not_complete_a_pilot() -> None:
    collected = Pilot(2)
    collected.add(torch.tensor([0.1, 0.2]), torch.tensor([1.0, float("nan")]))
    assert not collected.complete
    collected.add(torch.tensor([0.3]), torch.tensor([0.0]))
    assert collected.complete
    assert collected.predicted.tolist() == pytest.approx([0.1, 0.3])


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.9])
def test_implied_rewards_invert_the_closed_form(gamma: float) -> None:
    rewards = torch.rand(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = closed_form(rewards, rewards.max(dim=1, keepdim=True).values, gamma)
    implied = implied_rewards(values, values.max(dim=1, keepdim=True).values, gamma)
    assert torch.allclose(implied, rewards, atol=1e-12)


def knows_the_cosine(gamma: float, target: str, **changes: object) -> tuple[DynaQ, Tensor]:
    """An agent that has learned the cosine to perfection, and that cosine: float32 [16, 40].

    Each applicant has a job just like itself, of cosine 1, so Q* = cosine + gamma / (1 - gamma).
    """
    d = 16
    random = random_space(1, 24, d)
    jobs = torch.cat([d**0.5 * torch.eye(d), random.actions])
    space = FeatureSpace(d**0.5 * torch.eye(d), jobs, ((0, 0),), d)
    config = small_config(features="residual", gamma=gamma, target=target, candidates=40, **changes)
    agent = new_agent(space, config)
    if target != "closed_form":
        torch.nn.init.constant_(agent.q.last.bias, gamma / (1 - gamma))
    agent.learned_before = True
    return agent, space.states @ jobs.T / d


@pytest.mark.parametrize(
    ("gamma", "target"), [(0.0, "bellman"), (0.3, "bellman"), (0.9, "bellman"), (0.9, "double"), (0.9, "closed_form")]
)
@pytest.mark.parametrize("slope", [0.4, 3.0])
def test_after_the_pilot_a_new_scale_is_predicted_without_any_update(gamma: float, target: str, slope: float) -> None:
    agent, cosine = knows_the_cosine(gamma, target, hand_over__pilot=640 * 4)
    reward = slope * cosine - 0.7
    expected = closed_form(reward, reward.max(dim=1, keepdim=True).values, gamma)
    applicants, jobs = all_pairs(*reward.shape)
    everyone, everything = torch.arange(16), torch.arange(40).expand(16, -1)
    weights = {name: tensor.clone() for name, tensor in agent.q.state_dict().items()}
    ranked = agent.scores(everyone, everything).argsort(dim=1)

    agent.start_phase()
    for _ in range(4):
        assert agent.update() is None  # nothing is learned before the pilot is complete
        assert all(torch.equal(tensor, weights[name]) for name, tensor in agent.q.state_dict().items())
        agent.remember(applicants, jobs, reward.flatten())
    assert agent.line == pytest.approx((slope, -0.7), abs=0.02 * abs(1 - slope))  # 32 of 2,592 answers are the prior
    reached = agent.values(everyone, everything)
    assert (reached - expected).abs().mean() < 0.02 * expected.std() + 0.02 * abs(1 - slope) / (1 - gamma)
    assert torch.equal(agent.scores(everyone, everything).argsort(dim=1), ranked)
    assert agent.update() is not None


def test_the_pilot_moves_the_target_network_with_the_q_network() -> None:
    agent, cosine = knows_the_cosine(0.9, "bellman", hand_over__pilot=640)
    agent.start_phase()
    agent.remember(*all_pairs(16, 40), 0.4 * cosine.flatten() - 0.7)
    everyone = torch.arange(16)
    best = agent.scores(everyone, torch.arange(40).expand(16, -1)).max(dim=1).values
    assert torch.allclose(agent.maxima(everyone), best, atol=1e-5)


def test_the_learning_rate_rises_after_a_hand_over_only() -> None:
    agent, cosine = knows_the_cosine(0.3, "bellman", hand_over__pilot=8, hand_over__warmup=4, learning_rate=0.02)
    applicants, jobs = all_pairs(16, 40)

    def rates(updates: int) -> list[float]:
        used = []
        for _ in range(updates):
            assert agent.update() is not None
            used.append(agent.optimizer.param_groups[0]["lr"])
        return used

    agent.start_phase()
    agent.remember(applicants[:8], jobs[:8], cosine.flatten()[:8])
    assert rates(6) == pytest.approx([0.005, 0.01, 0.015, 0.02, 0.02, 0.02])
    agent = new_agent(agent.space, agent.config)  # one that has learned nothing has nothing to hand over
    agent.remember(applicants[:8], jobs[:8], cosine.flatten()[:8])
    assert rates(2) == [0.02, 0.02]


@pytest.mark.parametrize(
    ("answers", "skill", "explained", "expected"),
    [
        (100, 0.5, 0.5, 15.0),  # 3000 / 100, and half of it, as the answers say as much as the warm start
        (100, 0.75, 0.25, 2.5),
        (1000, 0.5, 0.5, 1.5),
        (100, 1.0, 0.5, 0.0),  # without noise nothing is pulled back
        (100, 0.2, 0.0, 0.0),  # nor to a warm start that explains nothing
        (100, -3.0, 0.18, 30 * 49 * 0.9),  # where nothing can be said yet, 2% is taken for signal
        (0, 0.5, 0.5, 1500.0),
    ],
)
def test_the_pull_is_noise_over_signal_and_answers(
    answers: int, skill: float, explained: float, expected: float
) -> None:
    assert pull_to_warm_start(3000, answers, skill, explained) == pytest.approx(expected)


def test_a_step_is_pulled_back_by_its_share_of_the_learning_rate() -> None:
    pulled, free = (handed_over(anchor=anchor, learning_rate=1e-3) for anchor in (200.0, 0.0))
    assert pulled.anchor is not None
    pulled.update()
    free.update()
    share = 1e-3 * pull_to_warm_start(200, 64, pulled.skill, pulled.world_model.explained)
    assert 0 < share < 1
    for ours, theirs, start in zip(pulled.q.parameters(), free.q.parameters(), pulled.anchor.parameters(), strict=True):
        assert torch.allclose(ours, theirs + share * (start - theirs), atol=1e-7)


def test_few_noisy_answers_leave_the_warm_start_standing() -> None:
    """Without the pull the network learns the noise of 64 answers by heart."""

    def still_known(anchor: float) -> float:
        agent = handed_over(anchor=anchor, learning_rate=0.01)
        for _ in range(200):
            agent.update()
        scores = agent.scores(torch.arange(16), torch.arange(40).expand(16, -1))
        similar = agent.space.states @ agent.space.actions.T / agent.space.d
        return float(torch.corrcoef(torch.stack([scores.flatten(), similar.flatten()]))[0, 1])

    assert still_known(5000) > 0.9
    assert still_known(0) < 0.8


def test_who_has_learned_nothing_has_nothing_to_be_pulled_to() -> None:
    agent, cosine = knows_the_cosine(0.0, "bellman")
    agent = new_agent(agent.space, agent.config)
    agent.start_phase()
    agent.remember(*all_pairs(16, 40), cosine.flatten())
    assert agent.update() is not None
    assert agent.anchor is None


def handed_over(anchor: float, learning_rate: float) -> DynaQ:
    """An agent that knows the cosine and has heard 64 answers, half of whose variance is the cosine's, half noise."""
    changes = {"hand_over__anchor": anchor, "hand_over__pilot": 64, "hand_over__warmup": 1, "dropout": 0.0}
    agent, cosine = knows_the_cosine(0.0, "bellman", learning_rate=learning_rate, **changes)
    agent.start_phase()
    chance = torch.Generator().manual_seed(0)
    applicants, jobs = all_pairs(16, 40)
    drawn = torch.randperm(640, generator=chance)[:64]
    noise = float(cosine.std()) * torch.randn(64, generator=chance)
    agent.remember(applicants[drawn], jobs[drawn], cosine.flatten()[drawn] + noise)
    return agent
