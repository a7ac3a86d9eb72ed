"""The agent: exact where a closed form exists, better than random where it must learn, honest when it plans."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynaq.agents.batch import Batch
from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.trainer import learn
from dynaq.mdp.environment import TrainingEnvironment
from dynaq.mdp.features import FeatureSpace
from dynaq.mdp.history import History
from dynaq.mdp.replay import Transitions
from tests.agents.conftest import HISTORY, TableReward, all_pairs, cosines, new_agent, random_space, small_config

NAN = float("nan")


def environment(agent: DynaQ, table: Tensor, rows: int) -> TrainingEnvironment:
    generator = torch.Generator().manual_seed(0)
    return TrainingEnvironment(TableReward(table), torch.arange(len(table)), rows, agent.sampler, generator)


def disturbed(agent: DynaQ) -> DynaQ:
    """The Q-network moves away from the target network, so that to mistake one for the other shows."""
    generator = torch.Generator().manual_seed(9)
    for parameter in agent.q.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return agent


def batch_of(agent: DynaQ) -> Batch:
    """Everything in the replay buffer."""
    slots = torch.arange(agent.replay.size)
    return Batch(agent.replay.at(slots), agent._history_before(agent.replay, slots), torch.ones(len(slots)))


# --- exactness --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "gamma", "updates"),
    [
        ("bellman", 0.0, 400),
        ("bellman", 0.3, 500),
        ("bellman", 0.9, 800),
        ("double", 0.3, 500),
        ("closed_form", 0.9, 400),
    ],
)
def test_static_state_reaches_the_closed_form(target: str, gamma: float, updates: int) -> None:
    """Q*(s, a) = R(s, a) + gamma / (1 - gamma) max R(s, .), to 0.001 where R is in [0, 1]."""
    table = torch.rand(6, 10, generator=torch.Generator().manual_seed(0))
    space = FeatureSpace(2 * torch.eye(6), 2 * torch.eye(10), (), 1)
    changes = {"hidden": [64, 64], "batch_size": 64, "learning_rate": 0.003, "candidates": 10}
    agent = new_agent(space, small_config(target=target, gamma=gamma, **changes))
    agent.remember(*all_pairs(6, 10), table.flatten())
    for _ in range(updates):
        agent.update()
    reached = agent.values(torch.arange(6), torch.arange(10).expand(6, -1))
    best = table.max(dim=1, keepdim=True).values
    assert (reached - (table + gamma / (1 - gamma) * best)).abs().max() < 1e-3


@pytest.mark.parametrize("target", ["bellman", "double", "closed_form"])
@pytest.mark.parametrize("features", ["concat", "residual"])
def test_targets_are_those_computed_by_hand(target: str, features: str) -> None:
    space = random_space(6, 12)
    agent = disturbed(new_agent(space, small_config(target=target, features=features, gamma=0.5, candidates=5)))
    agent.average_reward = 0.25
    rewards = torch.randn(9, generator=torch.Generator().manual_seed(1))
    applicants, ended = torch.arange(9) % 6, torch.tensor([False, True, False] * 3)
    batch = Transitions(applicants, applicants + 1, rewards, torch.zeros(9, dtype=torch.int64), ended)
    agent.epoch = 3  # candidates are those of the third synchronisation
    agent.freeze_target()
    found = agent.targets(Batch(batch, None, torch.ones(9)))
    agent.q.eval()
    unlike = 0
    for i in range(9):
        jobs = agent.maxima.candidates(applicants[i : i + 1])[0]
        states = space.states[applicants[i]].expand(5, -1)
        online, frozen = agent.q(states, space.actions[jobs]), agent.target(states, space.actions[jobs])
        unlike += int(online.argmax() != frozen.argmax())
        future = {"bellman": frozen.max(), "double": frozen[online.argmax()], "closed_form": torch.zeros(())}[target]
        expected = rewards[i] - 0.25 + 0.5 * (0.0 if ended[i] else future.item())
        assert found[i].item() == pytest.approx(expected.item(), abs=1e-5)
    assert unlike >= 2  # applicants who tell double from bellman


@pytest.mark.parametrize("target", ["bellman", "double"])
def test_a_history_that_remembers_one_more_answer_is_the_next_state(target: str) -> None:
    space = random_space(4, 12)
    agent = disturbed(new_agent(space, small_config(history=HISTORY, target=target, gamma=0.5, candidates=5)))
    generator = torch.Generator().manual_seed(2)
    applicants, jobs = torch.randint(4, (20,), generator=generator), torch.randint(12, (20,), generator=generator)
    rewards = torch.randn(20, generator=generator)
    for portion in torch.arange(20).split(6):  # an applicant may answer several times in one portion
        agent.remember(applicants[portion], jobs[portion], rewards[portion])
    batch = batch_of(agent)
    found = agent.targets(batch)
    agent.q.eval()
    for i in range(20):
        earlier = [k for k in range(i + 1) if applicants[k] == applicants[i]][-3:]  # this answer is the newest
        padding = [-1] * (3 - len(earlier))
        history = History(
            torch.tensor([padding + jobs[earlier].tolist()]),
            torch.tensor([[0.0] * len(padding) + rewards[earlier].tolist()]),
        )
        candidates = agent.sampler.draw(batch.transitions.next_seeds[i : i + 1])[0]
        values = [
            network(network.states(space, applicants[i : i + 1], history).expand(5, -1), space.actions[candidates])
            for network in (agent.q, agent.target)
        ]
        future = values[1][values[0].argmax()] if target == "double" else values[1].max()
        assert found[i].item() == pytest.approx((rewards[i] + 0.5 * future).item(), abs=1e-5)


def test_the_average_reward_follows_the_td_errors() -> None:
    """A step of the mean TD error each update; rewards that are all alike are then all average, and nothing is left."""
    agent = new_agent(random_space(6, 12), small_config(reward_centring=0.5, gamma=0.0, learning_rate=1e-9))
    agent.remember(torch.arange(6), torch.arange(6), torch.full((6,), 8.0))
    batch = batch_of(agent)
    for _ in range(40):
        agent.update()
    value = agent.scores(torch.arange(6), torch.arange(6)[:, None]).mean()
    assert agent.targets(batch).mean().item() == pytest.approx(value.item(), abs=0.2)
    assert agent.average_reward == pytest.approx(8.0 - value.item(), abs=0.2)
    agent.start_phase()
    assert agent.average_reward == 0.0


def test_the_maximum_changes_at_a_synchronisation_and_not_before() -> None:
    space = random_space(20, 15)
    agent = new_agent(space, small_config(gamma=0.9, target_sync=4, candidates=5))
    agent.remember(*all_pairs(20, 15), torch.rand(300, generator=torch.Generator().manual_seed(0)))
    everyone, batch = torch.arange(20), batch_of(agent)
    for _ in range(2):
        before, candidates, maxima = agent.targets(batch), agent.maxima.candidates(everyone), agent.maxima(everyone)
        for _ in range(3):
            agent.update()
            assert torch.equal(agent.targets(batch), before)
            assert torch.equal(agent.maxima.candidates(everyone), candidates)
            assert torch.equal(agent.maxima.recomputed(everyone), maxima)
        agent.update()
        assert (agent.maxima(everyone) != maxima).all()
        assert (agent.maxima.candidates(everyone) != candidates).any(dim=1).sum() > 10
        best = agent.scores(everyone, agent.maxima.candidates(everyone)).max(dim=1).values
        assert torch.allclose(agent.maxima(everyone), best, atol=1e-5)


def test_a_soft_target_moves_by_its_share() -> None:
    agent = new_agent(random_space(8, 10), small_config(target_share=0.25, target_sync=1))
    agent.remember(*all_pairs(8, 10), torch.rand(80, generator=torch.Generator().manual_seed(0)))
    before = [parameter.clone() for parameter in agent.target.parameters()]
    agent.update()
    for old, new, q in zip(before, agent.target.parameters(), agent.q.parameters(), strict=True):
        assert torch.allclose(new, 0.75 * old + 0.25 * q, atol=1e-6)


# --- jobs applied to --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_a_job_applied_to_is_shown_again_only_if_nothing_else_is_left(epsilon: float) -> None:
    table = (torch.arange(10) % 2).float().expand(5, -1)  # every other job is applied to when shown
    agent = new_agent(random_space(5, 10), small_config(applied_from=1.0, candidates=10, slate=2))
    shown: list[list[int]] = [[] for _ in range(5)]
    everyone, everything = torch.arange(5), torch.arange(10).expand(5, -1)
    for _ in range(60):
        slates = agent.act(everyone, everything, epsilon)
        for i, slate in enumerate(slates.tolist()):
            shown[i] += slate
        agent.remember(everyone.repeat_interleave(2), slates.flatten(), table.gather(1, slates).flatten())
    odd = [[job for job in jobs if job % 2] for jobs in shown]
    assert all(len(jobs) == len(set(jobs)) for jobs in odd)
    assert epsilon == 0.0 or all(len(jobs) == 5 for jobs in odd)
    only_odd = torch.tensor([[1, 3]]).expand(5, -1)
    agent.remember(everyone.repeat_interleave(2), only_odd.flatten(), torch.ones(10))
    assert agent.act(everyone, only_odd, epsilon).sort().values.tolist() == only_odd.tolist()


@pytest.mark.parametrize("target", ["bellman", "double"])
def test_a_job_applied_to_never_enters_the_maximum(target: str) -> None:
    space = random_space(4, 8)
    config = small_config(applied_from=0.9, gamma=0.5, candidates=4, target=target)
    agent = disturbed(new_agent(space, config))
    applicants, jobs = all_pairs(4, 8)
    rewards = torch.rand(32, generator=torch.Generator().manual_seed(3)).where(applicants < 3, 1.0)
    rewards[::3] = 1.0
    agent.remember(applicants, jobs, rewards)
    batch = batch_of(agent)
    found = agent.targets(batch)
    agent.q.eval()
    for i in range(32):
        candidates = agent.sampler.draw(batch.transitions.next_seeds[i : i + 1])[0].tolist()
        left = [job for job in candidates if rewards[8 * applicants[i] + job] < 0.9]
        future = torch.zeros(())
        if left:
            states = space.states[applicants[i]].expand(len(left), -1)
            values = agent.target(states, space.actions[left])
            future = values[agent.q(states, space.actions[left]).argmax()] if target == "double" else values.max()
        assert bool(left) == (applicants[i] < 3) or not left  # applicant 3 has applied to everything: no future
        assert found[i].item() == pytest.approx((rewards[i] + 0.5 * future).item(), abs=1e-5)


def test_applying_closes_the_job_in_the_transition_itself() -> None:
    """Also where the answer is imagined, or of another phase, so that the applicant has not applied to it yet."""
    agent = new_agent(random_space(4, 8), small_config(applied_from=0.9, gamma=0.5, candidates=8))
    jobs = agent.scores(torch.arange(4), torch.arange(8).expand(4, -1)).argmax(dim=1)
    seeds, ended = torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.bool)

    def futures(reward: float) -> Tensor:
        batch = Transitions(torch.arange(4), jobs, torch.full((4,), reward), seeds, ended)
        return agent.targets(Batch(batch, None, torch.ones(4))) - reward

    assert (futures(1.0) < futures(0.5) - 1e-4).all()


# --- learning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", ["concat", "product"])
def test_learns_a_similarity_for_applicants_never_seen(features: str) -> None:
    space = random_space(300, 200)
    table = cosines(space)
    agent = new_agent(space, small_config(features=features, target_sync=50, planning__steps=1))
    curves = learn(agent, environment(agent, table[:200], 64), 30, 8, lambda _: 1.0, 0)
    assert agent.skill > 0.5  # the world model has learned too, and planning was at work
    assert curves.values["planning_steps"].sum() > 50
    new = torch.arange(200, 300)
    candidates = agent.sampler.draw(new)
    rewards = table[new[:, None], candidates]
    chosen = table[new, agent.act(new, candidates, epsilon=0.0).squeeze(1)].mean()
    assert chosen > 0.8 * rewards.max(dim=1).values.mean()
    assert chosen > rewards.mean() + 0.3


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_missing_answers_teach_nothing(alpha: float) -> None:
    space = random_space(10, 10)
    silent = new_agent(space, small_config(replay__alpha=alpha))
    learn(silent, environment(silent, torch.full((10, 10), NAN), 10), 3, 2, lambda _: 1.0, 0)
    assert (silent.replay.size, silent.answers, silent.update()) == (0, 0, None)
    some, few = (new_agent(space, small_config(replay__alpha=alpha)) for _ in range(2))
    rows, rewards = torch.arange(10), torch.rand(10, generator=torch.Generator().manual_seed(0))
    heard = rows % 2 == 0
    some.remember(rows, rows, rewards.where(heard, NAN))
    few.remember(rows[heard], rows[heard], rewards[heard])
    for agent in (some, few):
        agent.update()
    assert all(torch.equal(a, b) for a, b in zip(some.q.parameters(), few.q.parameters(), strict=True))
    assert torch.equal(some.world_model.weights, few.world_model.weights)


def test_a_new_phase_keeps_weights_and_puts_experience_aside() -> None:
    agent = new_agent(random_space(20, 15), small_config())
    agent.remember(*all_pairs(20, 15), torch.rand(300, generator=torch.Generator().manual_seed(0)))
    agent.update()
    before = {name: tensor.clone() for name, tensor in agent.q.state_dict().items()}
    agent.start_phase()
    assert (agent.replay.size, agent.earlier.size) == (0, 300)
    assert all(torch.equal(before[name], tensor) for name, tensor in agent.q.state_dict().items())
    assert not agent.optimizer.state_dict()["state"]


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("earlier", [40, 100_000])
def test_earlier_experience_is_replayed_on_the_new_scale_and_fades(alpha: float, earlier: int) -> None:
    """In a batch it counts as ``earlier`` answers beside those heard since."""
    changes = {"hand_over__pilot": 40, "hand_over__earlier": earlier, "replay__alpha": alpha, "batch_size": 200}
    agent = new_agent(random_space(20, 15), small_config(**changes))
    applicants, jobs = all_pairs(20, 15)
    agent.remember(applicants, jobs, torch.full((300,), 0.5))
    agent.update()
    agent.start_phase()
    for count in (40, 240):
        agent.remember(applicants[:count], jobs[:count], torch.full((count,), 7.0))
        agent.line = (2.0, -4.0)  # whatever the pilot found
        for _ in range(10):
            rewards = agent._replayed().transitions.rewards
            old = int((rewards == -3.0).sum())
            assert old + int((rewards == 7.0).sum()) == 200
            assert abs(old - 200 * earlier / (earlier + agent.answers)) <= 1
        before = agent.prioritised and agent.prioritised.tensors()["priorities"].clone()
        assert agent.update() is not None
        if agent.prioritised:
            assert not torch.equal(agent.prioritised.tensors()["priorities"], before)
