"""Which pairs are asked about: each strategy on examples worked out by hand, what all of them keep to, and resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dynaq.agents.acquisition import Questions, answered, chance_of_top, chooser, highest, policy, spread
from dynaq.agents.dyna_q import DynaQ
from dynaq.agents.state import learned, load_learned
from dynaq.agents.trainer import learn
from dynaq.agents.world_model import WorldModel
from dynaq.config import AskConfig
from dynaq.mdp.candidates import fresh_seeds
from dynaq.mdp.environment import Observation, TrainingEnvironment
from dynaq.tracking.progress import Progress
from tests.agents.conftest import HISTORY, TableReward, all_pairs, cosines, new_agent, random_space, small_config
from tests.agents.test_state import assert_same

SPACE = random_space(60, 40)
INF = float("inf")
ACTIVE = ("uniform", "top_q", "uncertainty", "mixed")
COUNT, POOL = 10, 4
PLANNING = {"planning__steps": 3, "world_model__held_out_share": 0.3}


def ask(strategy: str, **changes: Any) -> AskConfig:
    knobs = {"strategy": strategy, "pool": POOL, "uniform_share": 0.2, "per_applicant": 2}
    return AskConfig.model_validate(knobs | changes)


def agent_of(**changes: Any) -> DynaQ:
    return new_agent(SPACE, small_config(**({"candidates": 12, "gamma": 0.5} | PLANNING | changes)))


def market(agent: DynaQ, rows: int = COUNT * POOL) -> TrainingEnvironment:
    table = (cosines(SPACE) > 0.3).float() + 0.3 * (SPACE.actions[:, 0] > 0)
    return TrainingEnvironment(
        TableReward(table), torch.arange(60), rows, agent.sampler, torch.Generator().manual_seed(5)
    )


def view(agent: DynaQ, rows: int, seed: int = 3) -> Observation:
    generator = torch.Generator().manual_seed(seed)
    return Observation(torch.randperm(60, generator=generator)[:rows], agent.sampler.draw(fresh_seeds(rows, generator)))


def experienced(**changes: Any) -> DynaQ:
    """An agent with 80 answers, drawn at random."""
    agent = agent_of(**changes)
    learn(agent, market(agent), 8, 3, lambda _: 0.0, seed=1, choose=chooser(ask("uniform"), COUNT))
    return agent


def best_q(voters: Tensor) -> Tensor:
    """The network, the last voter, at its best candidate: [B, n, V] -> [B, 1, 1]."""
    return voters[:, :, -1:].amax(1, keepdim=True)


def keys(questions: Questions) -> list[int]:
    return (questions.applicants * 40 + questions.jobs).tolist()


# --- the rules, by hand -----------------------------------------------------------------------------------------

VALUES = torch.tensor([[9.0, 8.0, 7.0, 1.0], [6.0, 2.0, 5.0, 3.0], [-INF, 4.0, -INF, -INF]])


@pytest.mark.parametrize(
    ("count", "left", "expected"),
    [
        (3, [9, 9, 9], [0, 1, 2]),
        (5, [2, 2, 2], [0, 1, 4, 6, 9]),
        (5, [1, 0, 2], [0, 9]),  # nothing else may be asked
        (0, [2, 2, 2], []),
        (5, [0, 0, 0], []),
    ],
)
def test_highest_takes_the_best_and_few_of_a_row(count: int, left: list[int], expected: list[int]) -> None:
    assert highest(VALUES, count, torch.tensor(left)).tolist() == expected


def test_chance_of_top_counts_the_voters() -> None:
    voters = torch.tensor([[[3.0, 1.0, 1.0, 9.0], [2.0, 2.0, 2.0, 0.0], [1.0, 3.0, 0.0, 1.0]]])  # 3 jobs, 4 voters
    assert chance_of_top(voters, 1).tolist() == [[0.5, 0.25, 0.25]]
    assert chance_of_top(voters, 2).tolist() == [[0.75, 0.75, 0.5]]
    assert chance_of_top(voters, 7).tolist() == [[1.0, 1.0, 1.0]]


def test_spread_passes_over_what_is_alike() -> None:
    quality = torch.tensor([[10.0, 9.0], [8.0, 2.0]])
    vectors = torch.tensor([[1.0, 0.0], [0.8, 0.6], [1.0, 0.0], [0.0, 1.0]])  # the third is the first one's job again
    left, none = torch.tensor([2, 2]), torch.empty(0, dtype=torch.int64)
    # After the first: 9 x (1 - .8) = 1.8, 8 x 0, 2 x 1. After the fourth: 9 x min(.2, .4), 0.
    assert spread(quality, vectors, 3, left, none).tolist() == [0, 3, 1]
    assert highest(quality, 3, left).tolist() == [0, 1, 2]
    assert spread(quality, vectors, 3, torch.tensor([1, 2]), none).tolist() == [0, 3, 2]
    assert spread(quality, vectors, 1, left, torch.tensor([0])).tolist() == [3]  # one was drawn before
    assert spread(torch.full((2, 2), -INF), vectors, 3, left, none).tolist() == []
    assert left.tolist() == [2, 2]


def test_spread_learns_more_from_a_pool_of_duplicates() -> None:
    """Six copies of the most wanted job and three others: the sum of the jobs' values is told by distinct ones only."""
    jobs = torch.eye(4)[[0, 0, 0, 0, 0, 0, 1, 2, 3]]
    quality = torch.tensor([[5.0]] * 6 + [[3.0], [2.0], [1.0]])
    left, truth = torch.ones(9, dtype=torch.int64), torch.tensor([1.0, -2.0, 0.5, 3.0])

    def error(places: Tensor) -> float:
        estimate = torch.linalg.lstsq(jobs[places], (jobs[places] @ truth)[:, None], driver="gelsd").solution
        return float((estimate.squeeze(1) - truth).square().sum())

    apart = spread(quality, jobs, 4, left, torch.empty(0, dtype=torch.int64))
    assert error(apart) < 1e-8
    assert error(highest(quality, 4, left)) > 10


# --- the strategies ---------------------------------------------------------------------------------------------


def test_top_q_and_uncertainty_ask_for_the_highest_of_all() -> None:
    agent = experienced()
    seen = view(agent, 20)
    known = answered(agent, seen)
    assert known.any()
    for strategy, values in (
        ("top_q", agent.scores(seen.applicants, seen.candidates)),
        ("uncertainty", agent.predict(seen.applicants, seen.candidates).disagreement.view(20, -1)),
    ):
        asked = chooser(ask(strategy, uniform_share=0.0, per_applicant=40), COUNT)(agent, seen, 0.0)
        places = values.masked_fill(known, -INF).flatten().topk(COUNT).indices
        expected = Questions(seen.applicants[places // 12], seen.candidates.flatten()[places])
        assert keys(asked) == keys(expected)


def test_mixed_asks_where_the_heads_disagree_about_jobs_that_may_be_best() -> None:
    agent = experienced()
    seen = view(agent, 20)
    asked = chooser(ask("mixed", uniform_share=0.0), COUNT)(agent, seen, 0.0)
    heads = agent.predict(seen.applicants, seen.candidates).heads.view(20, 12, -1)
    voters = torch.cat([heads, agent.scores(seen.applicants, seen.candidates)[:, :, None]], dim=2)
    best = voters.argmax(dim=1)  # [20, voters]
    for applicant, job in zip(asked.applicants.tolist(), asked.jobs.tolist(), strict=True):
        row = seen.applicants.tolist().index(applicant)
        assert job in seen.candidates[row, best[row]].tolist()
    assert len(set(asked.jobs.tolist())) == COUNT  # no job twice in a step
    alone = chooser(ask("mixed", uniform_share=0.0), 1)(agent, seen, 0.0)
    votes = (heads == heads.amax(1, keepdim=True)).float().mean(2) + voters[:, :, -1:].eq(best_q(voters)).squeeze(2)
    quality = (heads.std(dim=2) * votes).masked_fill(answered(agent, seen), -INF)
    assert alone.jobs.item() == seen.candidates.flatten()[quality.argmax()]


def test_policy_is_what_learning_always_was() -> None:
    """The loop as it stood before there was a choice, bit for bit."""
    agent, other = (agent_of(slate=2) for _ in range(2))
    for choice in (policy, chooser(ask("policy"), COUNT)):
        assert choice is policy
    learn(agent, market(agent), 4, 3, lambda _: 0.5, seed=1)
    world = market(other)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for step in range(4):
            seen = world.observe(step)
            slates = other.act(seen.applicants, seen.candidates, 0.5)
            applicants = seen.applicants.repeat_interleave(2)
            other.remember(applicants, slates.flatten(), world.rewards(step, applicants, slates.flatten()))
            for _ in range(3):
                other.update()
    assert_same(agent, other)


# --- what all of them keep to -----------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ACTIVE)
def test_no_pair_twice_few_of_an_applicant_and_never_too_many(strategy: str) -> None:
    agent = agent_of(candidates=30)
    choose, world, past = chooser(ask(strategy), COUNT), market(agent, 20), list[int]()
    for step in range(25):
        seen = world.observe(step)
        asked = choose(agent, seen, 0.0)
        assert len(asked.jobs) == COUNT
        assert asked.applicants.bincount().max() <= 2
        offered = dict(zip(seen.applicants.tolist(), seen.candidates.tolist(), strict=True))
        assert all(j in offered[a] for a, j in zip(asked.applicants.tolist(), asked.jobs.tolist(), strict=True))
        agent.remember(asked.applicants, asked.jobs, world.rewards(step, asked.applicants, asked.jobs), asked.uniform)
        past += keys(asked)
    assert len(set(past)) == len(past) == 250


@pytest.mark.parametrize("strategy", ACTIVE)
def test_where_everything_is_answered_nothing_is_asked(strategy: str) -> None:
    agent = agent_of(candidates=40)
    seen = view(agent, 3)
    choose = chooser(ask(strategy), COUNT)
    for _ in range(20):  # 3 applicants x 40 jobs, 2 an applicant and step
        asked = choose(agent, seen, 0.0)
        assert len(asked.jobs) == 6
        agent.remember(asked.applicants, asked.jobs, torch.rand(6), asked.uniform)
    assert len(choose(agent, seen, 0.0).jobs) == 0


def test_a_missing_answer_may_be_asked_for_again() -> None:
    agent = agent_of(candidates=40)
    seen = view(agent, 1)
    choose, nothing = chooser(ask("uniform", per_applicant=40), 40), torch.full((40,), torch.nan)
    asked = choose(agent, seen, 0.0)
    agent.remember(asked.applicants, asked.jobs, nothing, asked.uniform)
    assert len(choose(agent, seen, 0.0).jobs) == 40


@pytest.mark.parametrize("strategy", ACTIVE[1:])
def test_a_share_is_drawn_at_random_whatever_the_strategy(strategy: str) -> None:
    """Marked first, of the size asked for on average, and the same pairs for every strategy: nothing sways them."""
    agent = experienced()
    state = agent.generator.get_state()
    drawn: list[list[int]] = []
    drawn_by_top_q: list[list[int]] = []
    for chosen, kept in ((strategy, drawn), ("top_q", drawn_by_top_q)):
        agent.generator.set_state(state)
        choose = chooser(ask(chosen, uniform_share=0.25), COUNT)
        for seed in range(100):
            asked = choose(agent, view(agent, 30, seed), 0.0)
            assert asked.uniform is not None
            kept.append([key for key, uniform in zip(keys(asked), asked.uniform.tolist(), strict=True) if uniform])
    assert drawn == drawn_by_top_q
    assert {len(some) for some in drawn} == {2, 3}
    assert sum(map(len, drawn)) == pytest.approx(250, abs=20)


@pytest.mark.parametrize("strategy", ACTIVE[1:])
def test_a_pilot_is_asked_about_what_the_network_would_show_to_anyone(strategy: str) -> None:
    agent = agent_of(hand_over__pilot=15)
    load_learned(agent, {name: tensor.clone() for name, tensor in learned(experienced()).items()}, "earlier")
    agent.start_phase((1.0, 0.5, -0.1))
    choose, world, shown = chooser(ask(strategy), COUNT), market(agent), []
    for step in range(3):
        seen = world.observe(step)
        asked = choose(agent, seen, 0.0)
        slates = agent.act(seen.applicants, seen.candidates, 0.0)
        best = dict(zip(seen.applicants.tolist(), slates[:, 0].tolist(), strict=True))
        assert asked.uniform is not None
        sought = zip(asked.applicants[~asked.uniform].tolist(), asked.jobs[~asked.uniform].tolist(), strict=True)
        shown.append([best[a] == j for a, j in sought])
        agent.remember(asked.applicants, asked.jobs, (asked.jobs % 3) / 3, asked.uniform)
    assert [len(some) for some in shown] == [8, 8, 8]
    assert all(shown[0] + shown[1])  # the pilot of 15 ends with the second step
    assert strategy == "mixed" or not all(shown[2])  # which may well agree with the network


# --- calibration ------------------------------------------------------------------------------------------------


def test_only_drawn_pairs_are_held_out_and_they_are_their_share_of_all() -> None:
    agent = agent_of()
    held_out, learned_from = agent.world_model._held_out, agent.world_model._learned
    uniform = torch.arange(20) % 2 == 0
    applicants, jobs = torch.arange(20), torch.arange(20)
    rewards = torch.where(uniform, 1.0, 100.0)
    for step in range(1, 5):
        agent.world_model.observe(applicants, jobs, rewards, uniform=uniform)
        assert held_out.count == 6 * step  # 0.3 of 20
        assert held_out.square == 6 * step  # no 100 among them
        assert learned_from.count == 14 * step
    assert agent.world_model._mean == pytest.approx(1.0)  # the mean of what was drawn, not of what was sought out
    few = agent_of().world_model
    few.observe(applicants, jobs, rewards, uniform=torch.arange(20) == 7)
    assert few._held_out.count == 1
    few.observe(applicants, jobs, rewards, uniform=torch.zeros(20, dtype=torch.bool))
    assert few._held_out.count == 1
    assert few.skill == 0


def skill_on(model: WorldModel, rewards: Tensor) -> float:
    """Against the mean, over every pair there is."""
    weights, truth = model.weights[0] @ model.values, rewards.flatten().double()
    predicted = model.features(*all_pairs(*rewards.shape)) @ weights
    return 1 - float((predicted - truth).square().mean() / truth.var(correction=0))


def test_skill_is_that_on_any_pair_where_the_agent_seeks_the_best() -> None:
    """Where jobs of high value follow the cosine and others are noise, the sought-out pairs would promise too much."""
    space = random_space(200, 100)
    truth = cosines(space)
    noise = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rewards = torch.where(truth > 0.4, truth, noise)
    everyone, anything = all_pairs(200, 100)
    order = torch.randperm(20_000, generator=torch.Generator().manual_seed(1))
    drawn, rest = order[:400], order[400:]
    sought = rest[truth.flatten()[rest] > 0.4][:1200]
    asked = torch.cat([drawn, sought])
    config = small_config(world_model__held_out_share=0.15)
    by_hash, by_draw = (new_agent(space, config).world_model for _ in range(2))
    applicants, jobs, answers = everyone[asked], anything[asked], rewards.flatten()[asked]
    by_hash.observe(applicants, jobs, answers)
    by_draw.observe(applicants, jobs, answers, uniform=torch.arange(len(asked)) < len(drawn))
    actual, wrong = skill_on(by_draw, rewards), skill_on(by_hash, rewards)
    assert by_draw.skill == pytest.approx(actual, abs=0.15)
    assert by_hash.skill > wrong + 0.15


# --- resuming ---------------------------------------------------------------------------------------------------


class Dying(TrainingEnvironment):
    """The process dies at a step; some answers fail."""

    dies_at = -1

    def rewards(self, step: int, applicants: Tensor, jobs: Tensor) -> Tensor:
        if step == self.dies_at:
            raise KeyboardInterrupt
        return super().rewards(step, applicants, jobs).masked_fill(jobs % 7 == step, float("nan"))


@pytest.mark.parametrize(("strategy", "changes"), [*((name, {}) for name in ACTIVE), ("mixed", {"history": HISTORY})])
def test_interrupted_anywhere_it_asks_as_if_nothing_had_been(
    strategy: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    earlier = {name: tensor.clone() for name, tensor in learned(experienced(**changes)).items()}

    def run(dies_at: int, progress: Progress | None) -> DynaQ:
        agent = agent_of(hand_over__pilot=15, **changes)
        load_learned(agent, {name: tensor.clone() for name, tensor in earlier.items()}, "earlier")
        agent.start_phase((1.3, 1.0, 0.3, 0.0))
        world = Dying(
            TableReward((cosines(SPACE) > 0.3).float()),
            torch.arange(60),
            COUNT * POOL,
            agent.sampler,
            torch.Generator().manual_seed(5),
        )
        world.dies_at = dies_at
        learn(agent, world, 6, 2, lambda _: 0.1, 3, progress, chooser(ask(strategy), COUNT))
        return agent

    whole = run(-1, None)
    assert_same(run(-1, None), whole)
    for step in (1, 3, 5):
        with pytest.raises(KeyboardInterrupt):
            run(step, Progress(tmp_path / "run.progress", tmp_path, 0.0))
    assert_same(run(-1, Progress(tmp_path / "run.progress", tmp_path, 0.0)), whole)
