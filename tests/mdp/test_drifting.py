"""The drifting market: hand-computed moves, luck that follows the pair, candidates that stay enough."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from dynaq.config import LabelValues
from dynaq.errors import InputError
from dynaq.mdp.drifting import DriftingEnvironment
from dynaq.mdp.features import FeatureSpace

VALUES = LabelValues(apply=1.0, save=0.5, ignore=-0.1)


def space(applicants: int = 60, jobs: int = 80) -> FeatureSpace:
    generator = torch.Generator().manual_seed(5)
    states, actions = (torch.randn(count, 12, generator=generator) for count in (applicants, jobs))
    return FeatureSpace(states, actions, ((0, 6), (6, 0)), 6)


def market(**changes: Any) -> DriftingEnvironment:
    wanted: dict[str, Any] = {
        "space": space(),
        "pool": torch.arange(60),
        "applicants_per_step": 20,
        "candidates": 10,
        "values": VALUES,
        "drift": 0.0,
        "fatigue": 0.0,
        "no_repeats": False,
        "seed": 3,
    }
    return DriftingEnvironment(**(wanted | changes))


def everything(environment: DriftingEnvironment) -> Tensor:
    return environment.expected(torch.arange(60), torch.arange(80).expand(60, -1))


def live(environment: DriftingEnvironment, steps: int, place: int = 0) -> Tensor:
    """Show everybody the candidate in one place, step by step; all answers."""
    answers = []
    for step in range(steps):
        seen = environment.observe(step)
        answers.append(environment.rewards(step, seen.applicants, seen.candidates[:, place]))
    return torch.cat(answers)


def test_without_drift_and_fatigue_history_does_not_matter() -> None:
    lived, fresh = market(), market()
    live(lived, 30)
    assert torch.equal(everything(lived), everything(fresh))
    everybody, job = torch.arange(60), torch.full((60,), 7)
    assert torch.equal(lived.rewards(99, everybody, job), fresh.rewards(99, everybody, job))


@pytest.mark.parametrize("dial", ["drift", "fatigue"])
def test_with_either_it_does_and_begins_the_same(dial: str) -> None:
    moving = market(**{dial: 1.0})
    assert torch.equal(everything(moving), everything(market()))
    live(moving, 5)
    assert not torch.allclose(everything(moving), everything(market()), atol=0.05)


def test_an_answer_above_zero_pulls_the_interest_by_its_share() -> None:
    """w = drift for apply, half of it for save, nothing for ignore."""
    environment = market(drift=0.5)
    before, kinds = environment.tensors()["interests"], environment._kinds
    everybody = torch.arange(60)
    jobs = environment.expected(everybody, torch.arange(80).expand(60, -1))[:, :20].argmax(dim=1)
    answers = environment.rewards(0, everybody, jobs)
    assert torch.equal(answers.unique(), torch.tensor([VALUES.ignore, VALUES.save, VALUES.apply]))
    pull = torch.zeros(60)
    pull[answers == 1.0], pull[answers == 0.5] = 0.5, 0.25
    expected = normalize((1 - pull[:, None]) * before + pull[:, None] * kinds[jobs], dim=1)
    assert torch.allclose(environment.tensors()["interests"], expected, atol=1e-6)


def test_a_full_drift_makes_the_last_job_the_interest_also_within_a_slate() -> None:
    environment = market(drift=1.0)
    best = everything(environment).topk(2, dim=1).indices  # [60, 2]
    answers = environment.rewards(0, torch.arange(60).repeat_interleave(2), best.flatten()).reshape(60, 2)
    both = (answers == 1.0).all(dim=1)
    assert both.sum() > 10
    assert torch.allclose(environment.tensors()["interests"][both], environment._kinds[best[both, 1]], atol=1e-6)


def test_fatigue_takes_a_fifth_of_it_for_each_of_the_last_five_that_were_the_same() -> None:
    environment = market(fatigue=0.7)
    one, job, other = torch.tensor([4]), torch.tensor([9]), torch.tensor([30])
    unbored = environment._utility(one, job)
    alike = max(0.0, cosine_similarity(environment._kinds[9], environment._kinds[30], dim=0).item()) ** 4
    for step, (shown, lost) in enumerate([(job, 1 / 5), (job, 2 / 5), (other, (2 + alike) / 5)]):
        environment.rewards(step, one, shown)
        assert environment._utility(one, job).item() == pytest.approx(unbored.item() - 0.7 * lost, abs=1e-5)
    for step in range(3, 10):
        environment.rewards(step, one, job)
    assert environment._utility(one, job).item() == pytest.approx(unbored.item() - 0.7, abs=1e-5)


def test_luck_follows_seed_step_applicant_and_job_and_nothing_else() -> None:
    applicants, jobs = torch.arange(60).repeat(4), torch.randint(80, (240,))
    order = torch.randperm(240)
    answers = market().rewards(4, applicants, jobs)
    assert torch.equal(market().rewards(4, applicants[order], jobs[order]), answers[order])
    assert torch.equal(market().rewards(4, applicants[:9], jobs[:9]), answers[:9])
    assert not torch.equal(market().rewards(5, applicants, jobs), answers)
    assert not torch.equal(market(seed=4).rewards(4, applicants, jobs), answers)
    assert torch.equal(live(market(drift=0.5, fatigue=1.0), 9), live(market(drift=0.5, fatigue=1.0), 9))


def test_expected_is_the_mean_of_the_answers() -> None:
    environment = market()
    applicants, jobs = torch.arange(60), torch.arange(60) + 10
    heard = torch.stack([environment.rewards(step, applicants, jobs) for step in range(600)]).mean(dim=0)
    error = heard - environment.expected(applicants, jobs[:, None]).squeeze(1)
    assert error.abs().max() < 5 * 0.55 / math.sqrt(600)  # answers within 1.1 of each other: deviation 0.55 at most
    assert error.mean().abs() < 5 * 0.55 / math.sqrt(60 * 600)


def test_bounds_hold_for_what_can_be_chosen() -> None:
    environment = market(applicants_per_step=60)
    seen = environment.observe(0)
    optimum, random = environment.bounds(seen)
    expected = everything(environment).gather(1, seen.candidates[seen.applicants.argsort()])
    assert optimum == pytest.approx(expected.max(dim=1).values.mean().item(), abs=1e-5)
    assert random == pytest.approx(expected.mean().item(), abs=1e-5)
    assert optimum > random + 0.3


def test_utilities_resemble_the_cosine_without_being_it() -> None:
    given = space()
    cosine = sum(
        cosine_similarity(given.states[:, None, i : i + 6], given.actions[None, :, j : j + 6], dim=2)
        for i, j in given.pairs
    )
    alike = torch.corrcoef(torch.stack([everything(market()).flatten(), torch.as_tensor(cosine).flatten()]))[0, 1]
    assert 0.2 < alike < 0.9


def test_arrivals_are_distinct_and_candidates_too() -> None:
    seen = market(pool=torch.arange(30, 60)).observe(2)
    assert len(seen.applicants.unique()) == 20
    assert seen.applicants.min() >= 30
    assert all(len(set(row)) == 10 for row in seen.candidates.tolist())
    assert len(market(applicants_per_step=100).observe(0).applicants) == 60


def test_what_was_applied_to_is_not_offered_again_and_candidates_stay_as_many() -> None:
    environment = market(no_repeats=True, drift=0.3, applicants_per_step=60, candidates=40)
    applied = torch.zeros(60, 80, dtype=torch.bool)
    for step in range(40):
        seen = environment.observe(step)
        assert seen.candidates.shape == (60, 40)
        assert all(len(set(row)) == 40 for row in seen.candidates.tolist())
        assert not applied[seen.applicants[:, None], seen.candidates].any()
        jobs = seen.candidates.gather(1, environment.expected(*vars(seen).values()).argmax(1, keepdim=True)).squeeze(1)
        answers = environment.rewards(step, seen.applicants, jobs)
        applied[seen.applicants[answers == 1.0], jobs[answers == 1.0]] = True
    assert applied.sum(dim=1).max() > 10


def test_it_says_so_when_too_few_jobs_are_left() -> None:
    environment = market(no_repeats=True, candidates=80)
    with pytest.raises(InputError, match=r"applied to \d+ of 80 jobs, which leaves fewer than 80 candidates"):
        live(environment, 50)


def test_it_goes_on_from_its_tensors() -> None:
    environment, resumed = (market(drift=0.5, fatigue=1.0, no_repeats=True) for _ in range(2))
    live(environment, 6)
    kept = environment.tensors()
    environment.rewards(50, torch.arange(60), torch.arange(60))
    resumed.load(kept)
    resumed.rewards(50, torch.arange(60), torch.arange(60))
    assert torch.equal(everything(resumed), everything(environment))
    assert torch.equal(resumed.observe(51).candidates, environment.observe(51).candidates)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drift": 1.5}, r"drift is 1.5, it must lie in \[0, 1\]"),
        ({"drift": float("nan")}, "drift is nan"),
        ({"fatigue": -0.1}, "fatigue is -0.1, it must be 0 or more"),
        ({"seed": -1}, "seed of the drifting market is -1"),
        ({"candidates": 81}, "81 candidates were asked for, the catalogue allows 1 to 80"),
        ({"pool": torch.arange(0)}, "the pool is empty"),
        ({"values": LabelValues(apply=0.5, save=0.5, ignore=0.0)}, "apply > save"),
        ({"space": FeatureSpace(torch.randn(60, 6), torch.randn(80, 6), (), 6)}, "needs a pair"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        market(**changes)


@pytest.mark.parametrize(
    ("applicants", "jobs", "message"),
    [([60], [0], "applicant row 60"), ([0], [-1], "job row -1"), ([0, 1], [0], r"\[2\] and jobs \[1\]")],
)
def test_bad_rows(applicants: list[int], jobs: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        market().rewards(0, torch.tensor(applicants), torch.tensor(jobs))
