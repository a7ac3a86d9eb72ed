"""The controls: each solves what it should, exactly where there is a closed form, and refuses what makes no sense."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynaq.agents.controls.control import Control
from dynaq.agents.controls.linear_bandit import _ALPHA, _RIDGE, LinearBandit
from dynaq.agents.controls.popularity import Popularity
from dynaq.agents.controls.random_choice import RandomChoice
from dynaq.agents.controls.ranker import SupervisedRanker
from dynaq.agents.controls.raw_cosine import RawCosine
from dynaq.agents.controls.replay import ReplayAgent
from dynaq.agents.trainer import learn
from dynaq.errors import InputError
from dynaq.mdp.candidates import CandidateSampler
from dynaq.mdp.environment import TrainingEnvironment
from dynaq.mdp.features import FeatureSpace
from tests.agents.conftest import TableReward, all_pairs, cosines, random_space, small_config

APPLICANTS, JOBS = 60, 90
SPACE = random_space(APPLICANTS, JOBS)
NAN = float("nan")


def turned(space: FeatureSpace) -> Tensor:
    """A rule that no cosine sees: everybody likes the jobs near the opposite of the first half of what they have."""
    signs = torch.ones(space.d)
    signs[: space.d // 2] = -1
    return (space.states * signs) @ space.actions.T / space.d


def liked(utility: Tensor) -> Tensor:
    """1 for the best fifth of all pairs, 0 for the others."""
    return (utility > utility.quantile(0.8)).float()


def appeal() -> Tensor:
    """What everybody thinks alike of each job: float32 [N, M]."""
    return torch.randn(JOBS, generator=torch.Generator().manual_seed(2)).expand(APPLICANTS, -1)


MAKERS: dict[str, Callable[[int], Control]] = {
    "random": lambda seed: RandomChoice(1, seed),
    "popularity": lambda seed: Popularity(APPLICANTS, JOBS, 1, seed),
    "cosine": lambda seed: RawCosine(TableReward(cosines(SPACE)), 1, seed),
    "bandit": lambda seed: LinearBandit(SPACE, 1, seed),
    "ranker": lambda seed: SupervisedRanker(SPACE, 1, seed),
}


def rewards_of(control: Control, table: Tensor, steps: int = 60) -> Tensor:
    """Mean reward of each step in the loop that all agents learn in: float64 [steps]."""
    environment = TrainingEnvironment(
        TableReward(table), torch.arange(APPLICANTS), 20, CandidateSampler(JOBS, 15), torch.Generator().manual_seed(0)
    )
    return torch.from_numpy(learn(control, environment, steps, 2, lambda _: 0.05, 0).values["reward"])


@pytest.mark.parametrize(
    ("name", "utility"),
    [
        ("cosine", cosines(SPACE)),
        ("popularity", appeal()),
        ("bandit", turned(SPACE)),
        ("ranker", turned(SPACE)),
    ],
)
def test_a_control_beats_random_on_what_it_can_learn(name: str, utility: Tensor) -> None:
    table = liked(utility)
    late = rewards_of(MAKERS[name](0), table)[-15:].mean()
    assert late > rewards_of(MAKERS["random"](0), table).mean() + 0.2


@pytest.mark.parametrize("name", MAKERS)
def test_a_seed_decides_everything(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (rewards_of(MAKERS[name](seed), liked(turned(SPACE)), 8) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", MAKERS)
def test_slates_are_the_best_in_order_and_missing_answers_leave_no_trace(name: str) -> None:
    control = MAKERS[name](0)
    control.slate = 3
    applicants, candidates = torch.arange(5), torch.arange(20).expand(5, -1)
    scores = control.scores(applicants, candidates)
    control.remember(torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([NAN, NAN]))
    assert control.update() is None
    slates = control.act(applicants, candidates, 0.0)
    assert slates.shape == (5, 3)
    assert all(len(set(row)) == 3 for row in slates.tolist())
    if name not in ("random", "bandit"):  # the bandit shows what may be best
        assert torch.equal(control.scores(applicants, candidates), scores)
        assert torch.equal(slates, scores.sort(descending=True, stable=True).indices[:, :3])
    assert control.act(applicants, candidates[:, :2], 0.0).shape == (5, 2)
    assert control.skill != control.skill
    assert not control.piloting


# --- popularity -----------------------------------------------------------------------------------------------------


def test_popularity_trusts_a_job_as_far_as_it_was_shown() -> None:
    popularity = Popularity(1, 4, 1, 0)
    jobs = torch.tensor([0] * 2 + [1] * 40 + [2] * 40)
    rewards = torch.tensor([1.0] * 2 + [1.0, 1.0, 1.0, 0.0] * 10 + [1.0, -0.1, 0.0, 0.0] * 10)
    popularity.remember(torch.zeros(82, dtype=torch.int64), jobs, rewards)
    mean, strength = popularity.prior()
    assert mean == pytest.approx(43 / 84)
    rates = popularity.scores(torch.tensor([0]), torch.arange(4)[None])[0]
    assert rates[2] < rates[3] < rates[0] < 1.0
    assert rates[3] == pytest.approx(mean)
    assert rates[1] == pytest.approx((30 + strength * mean) / (40 + strength))


def test_popularity_finds_the_prior_that_rates_come_from() -> None:
    chance = torch.Generator().manual_seed(0)
    # Beta(2, 6) as the ratio of sums of exponentials.
    one, other = (-torch.rand(600, k, generator=chance).log().sum(1) for k in (2, 6))
    jobs = torch.arange(600).repeat_interleave(30)
    answers = (torch.rand(len(jobs), generator=chance) < (one / (one + other))[jobs]).float()
    popularity = Popularity(1, 600, 1, 0)
    popularity.remember(torch.zeros_like(jobs), jobs, answers)
    mean, strength = popularity.prior()
    assert mean == pytest.approx(0.25, abs=0.02)
    assert strength == pytest.approx(8, rel=0.25)


# --- linear bandit --------------------------------------------------------------------------------------------------


def answers(count: int, seed: int, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    applicants = torch.randint(APPLICANTS, (count,), generator=chance)
    jobs = torch.randint(JOBS, (count,), generator=chance)
    return applicants, jobs, table[applicants, jobs]


def test_the_bandit_is_the_closed_form_after_many_updates() -> None:
    bandit, table = LinearBandit(SPACE, 2, 0), liked(turned(SPACE))
    labels = answers(200, 0, table)
    bandit.learn_labels(*labels)
    parts, given = [bandit.features(labels[0], labels[1][:, None], labels=True).squeeze(1)], [labels[2]]
    for step in range(60):
        applicants, jobs, rewards = answers(7, step + 1, table)
        bandit.remember(applicants, jobs, rewards.where(jobs % 5 > 0, NAN))
        heard = jobs % 5 > 0
        parts.append(bandit.features(applicants[heard], jobs[heard][:, None]).squeeze(1))
        given.append(rewards[heard])
    x, y = torch.cat(parts).double(), torch.cat(given).double()
    a = x.T @ x + _RIDGE * torch.eye(x.shape[1])
    assert torch.allclose(bandit.theta, torch.linalg.solve(a, x.T @ y), rtol=0, atol=1e-10)
    applicants, candidates = torch.arange(APPLICANTS), torch.arange(JOBS).expand(APPLICANTS, -1)
    x = bandit.features(applicants, candidates).double()
    bonus = _ALPHA * (x * torch.linalg.solve(a, x.flatten(0, 1).T).T.reshape(x.shape)).sum(2).sqrt()
    assert torch.allclose(bandit.scores(applicants, candidates).double(), x @ bandit.theta, atol=1e-5)
    assert torch.equal(bandit.act(applicants, candidates, 0.0), (x @ bandit.theta + bonus).topk(2).indices)


def test_the_bandit_recovers_a_linear_rule_whatever_the_mean_of_the_labels() -> None:
    bandit = LinearBandit(SPACE, 1, 0)
    applicants, candidates = torch.arange(APPLICANTS), torch.arange(JOBS).expand(APPLICANTS, -1)
    x = bandit.features(applicants, candidates)
    rule = x @ torch.randn(x.shape[2], generator=torch.Generator().manual_seed(1))
    bandit.learn_labels(*answers(2500, 2, rule + 5))
    shifted = bandit.scores(applicants, candidates)
    assert torch.corrcoef(torch.stack([shifted.flatten(), rule.flatten()]))[0, 1] > 0.98
    assert float((shifted - rule).mean()) > 1
    bandit.remember(*answers(300, 3, rule))
    assert abs(float((bandit.scores(applicants, candidates) - rule).mean())) < 0.3


# --- supervised ranker ----------------------------------------------------------------------------------------------


def two_fields() -> FeatureSpace:
    """Two fields on either side, one of the applicant's paired twice."""
    one, other = random_space(20, 30, seed=1), random_space(20, 30, seed=2)
    states, actions = torch.cat([one.states, other.states], 1), torch.cat([one.actions, other.actions], 1)
    return FeatureSpace(states, actions, ((0, 16), (0, 0), (16, 16)), 16)


def test_the_ranker_starts_at_the_cosine_and_scores_candidates_as_pairs() -> None:
    space = two_fields()
    ranker, everyone = SupervisedRanker(space, 1, 0), torch.arange(20)
    state, action = space.states.unflatten(1, (2, 16)), space.actions.unflatten(1, (2, 16))
    mean = sum(state[:, i] @ action[:, j].T for i, j in ((0, 1), (0, 0), (1, 1))) / 16 / 3
    assert torch.allclose(ranker.scores(everyone, torch.arange(30).expand(20, -1)), mean, atol=1e-5)
    for parameter in ranker.towers.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    pairs = ranker.towers(*all_pairs(20, 30)).reshape(20, 30)
    assert torch.allclose(ranker.scores(everyone, torch.arange(30).expand(20, -1)), pairs, atol=1e-4)


def correlation(ranker: SupervisedRanker, table: Tensor, jobs: Tensor) -> float:
    scores = ranker.scores(torch.arange(APPLICANTS), jobs.expand(APPLICANTS, -1))
    return float(torch.corrcoef(torch.stack([scores.flatten(), table[:, jobs].flatten()]))[0, 1])


def error(ranker: SupervisedRanker, table: Tensor) -> float:
    """Mean squared error of all pairs over the variance, which is that of the mean."""
    scores = ranker.scores(torch.arange(APPLICANTS), torch.arange(JOBS).expand(APPLICANTS, -1))
    return float(((scores - table) ** 2).mean() / table.var())


def test_the_ranker_learns_labels_and_survives_another_scale() -> None:
    ranker, table, unlabelled = SupervisedRanker(SPACE, 1, 0), turned(SPACE), torch.arange(70, JOBS)
    assert correlation(ranker, table, unlabelled) < 0.7
    applicants, jobs, _ = answers(600, 0, table)
    ranker.learn_labels(applicants, jobs % 70, 3 * table[applicants, jobs % 70] - 2)
    assert correlation(ranker, table, unlabelled) > 0.9
    everything = torch.arange(APPLICANTS), torch.arange(JOBS).expand(APPLICANTS, -1)
    online, before = liked(table), ranker.scores(*everything)
    assert error(ranker, online) > 10
    ranker.remember(*answers(63, 1, online))
    assert ranker.update() is None
    ranker.remember(*answers(100, 2, online))
    assert torch.equal(before.argmax(1), ranker.scores(*everything).argmax(1))
    assert error(ranker, online) < 0.9
    assert max(losses.q for _ in range(200) if (losses := ranker.update()) is not None) < online.var() * 2
    assert error(ranker, online) < 0.7


def test_labels_of_noise_leave_the_ranker_at_the_cosine_however_long_it_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynaq.agents.controls.ranker._PATIENCE", 1000)
    ranker, noise = (
        SupervisedRanker(SPACE, 1, 0),
        torch.randn(APPLICANTS, JOBS, generator=torch.Generator().manual_seed(1)),
    )
    ranker.learn_labels(*answers(300, 0, cosines(SPACE) + 3 * noise))
    assert correlation(ranker, cosines(SPACE), torch.arange(JOBS)) > 0.9


# --- the agent without planning -------------------------------------------------------------------------------------


def test_the_replay_agent_imagines_nothing_but_what_was_answered() -> None:
    agent = ReplayAgent(SPACE, small_config(planning__steps=1), CandidateSampler(JOBS, 15), 0)
    table = turned(SPACE)
    agent.remember(*answers(10, 0, table))
    asked = set(zip(*(part.tolist() for part in answers(10, 0, table)), strict=True))
    batch = agent._imagined().transitions
    assert len(batch.jobs) == agent.config.batch_size
    assert set(zip(batch.applicants.tolist(), batch.jobs.tolist(), batch.rewards.tolist(), strict=True)) <= asked


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_a_slate_without_places_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="the slate is 0: at least 1 job"):
        type(MAKERS[name](0))(*{"random": (), "popularity": (9, 9), "cosine": (None,)}.get(name, (SPACE,)), 0, 0)


@pytest.mark.parametrize("name", ["popularity", "bandit", "ranker"])
@pytest.mark.parametrize(
    ("applicants", "jobs", "rewards", "said"),
    [
        ([0, 1], [2, 3], [1.0], r"three lists of one length, found \[2\], \[2\] and \[1\]"),
        ([0], [-1], [1.0], "job row -1 was answered for, but there are 90"),
        ([60], [0], [1.0], "applicant row 60 was answered for, but there are 60"),
        ([0], [0], [float("inf")], "a reward is infinite"),
    ],
)
def test_answers_that_make_no_sense_are_refused(
    name: str, applicants: list[int], jobs: list[int], rewards: list[float], said: str
) -> None:
    control = MAKERS[name](0)
    with pytest.raises(InputError, match=said):
        control.remember(torch.tensor(applicants), torch.tensor(jobs), torch.tensor(rewards))
    if isinstance(control, LinearBandit | SupervisedRanker):
        with pytest.raises(InputError, match=said):
            control.learn_labels(torch.tensor(applicants), torch.tensor(jobs), torch.tensor(rewards))


@pytest.mark.parametrize("kind", [LinearBandit, SupervisedRanker])
def test_paired_fields_are_needed(kind: type[LinearBandit | SupervisedRanker]) -> None:
    with pytest.raises(InputError, match="there is no pair: set cosine_pairs"):
        kind(FeatureSpace(SPACE.states, SPACE.actions, (), 16), 1, 0)
