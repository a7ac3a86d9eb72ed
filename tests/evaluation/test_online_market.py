"""The market: rates as promised, the same luck for all, nobody applies twice, and look-alikes tire."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare

from dynaq.errors import InputError
from dynaq.evaluation.market.draws import identity_keys
from dynaq.evaluation.market.environment import OnlineEnvironment
from dynaq.evaluation.market.market import FATIGUE, MEMORY, Market
from dynaq.evaluation.market.traits import Side

APPLICANTS, JOBS, TOPICS = 60, 150, 5


def side(kind: str, count: int) -> Side:
    chance = np.random.default_rng(len(kind))
    topics = chance.standard_normal((count, TOPICS)).astype(np.float32)
    nothing = np.full(count, np.nan, dtype=np.float32)
    return Side(
        keys=identity_keys([f"{kind}-{number}" for number in range(count)]),
        topics=topics / np.linalg.norm(topics, axis=1, keepdims=True),
        place=np.full(count, -1),
        level=nothing,
        pay=nothing,
        remote=nothing,
    )


PEOPLE, CATALOGUE = side("applicant", APPLICANTS), side("job", JOBS)
UTILITIES = np.random.default_rng(0).normal(3, 7, size=(APPLICANTS, JOBS)).astype(np.float32)


def market(seed: int = 0) -> Market:
    return Market(UTILITIES, PEOPLE, CATALOGUE, seed)


def test_rates_are_as_calibrated() -> None:
    chances = market().base_chances()
    assert chances.mean() == pytest.approx(0.10, abs=0.01)
    assert np.sort(chances[:, :50], axis=1)[:, -1].mean() == pytest.approx(0.65, abs=0.05)
    order = np.argsort(UTILITIES, axis=1)
    assert (np.diff(np.take_along_axis(chances, order, axis=1), axis=1) >= 0).all()


def test_candidates_are_distinct_uniform_and_the_same_for_all() -> None:
    here, there = market(), market()
    draws = np.stack([here.candidates(step, 20) for step in range(100)])
    assert np.array_equal(draws[5], there.candidates(5, 20))
    assert np.array_equal(draws[5][:, :7], there.candidates(5, 7))  # fewer are the first of more
    assert all(len(set(row)) == 20 for row in draws[0])
    for place in (0, 19):
        assert chisquare(np.bincount(draws[:, :, place].ravel(), minlength=JOBS)).pvalue > 1e-4
    assert not np.array_equal(market(seed=1).candidates(5, 20), draws[5])


def test_answers_come_at_the_rate_of_their_chance_and_are_common_luck() -> None:
    jobs = np.tile(np.arange(40), (APPLICANTS, 1))
    expected, seen = market().chances(jobs), []
    for seed in range(80):
        fresh = market(seed)
        fresh._threshold, fresh._temperature = market()._threshold, market()._temperature
        seen.append(fresh.answers(3, jobs))
    error = (np.mean(seen, axis=0) - expected) / np.sqrt(expected * (1 - expected) / len(seen))
    assert abs(error.mean()) < 0.06
    assert error.std() == pytest.approx(1, abs=0.06)
    assert np.array_equal(market().answers(3, jobs[:, ::-1]), market().answers(3, jobs)[:, ::-1])
    assert not np.array_equal(market().answers(4, jobs), market().answers(3, jobs))


def test_what_was_interacted_with_is_not_offered_again_and_others_move_up() -> None:
    here, untouched = market(), market()
    slates = here.candidates(0, 50)
    answers = here.answers(0, slates)
    assert answers.sum() > 100
    for row in range(APPLICANTS):
        gone = set(slates[row][answers[row] == 1])
        before, after = untouched.candidates(1, JOBS)[row], here.candidates(1, 50)[row]
        assert after.tolist() == [job for job in before if job not in gone][:50]


def test_a_job_that_looks_like_those_shown_is_less_wanted_and_that_passes() -> None:
    here, jobs = market(), np.tile(np.array([4, 9]), (APPLICANTS, 1))
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    fresh = logit(here.chances(jobs).astype(np.float64))
    shown = np.full((APPLICANTS, 1), 4)
    here.answers(0, shown)
    alike = np.maximum(CATALOGUE.topics[[4, 9]] @ CATALOGUE.topics[4], 0)
    lost = fresh - logit(here.chances(jobs).astype(np.float64))
    assert lost == pytest.approx(np.tile(FATIGUE * alike / here._temperature, (APPLICANTS, 1)), rel=1e-3, abs=1e-4)
    here.answers(1, np.zeros((APPLICANTS, 0), dtype=np.int64))
    assert fresh - logit(here.chances(jobs).astype(np.float64)) == pytest.approx(MEMORY * lost, rel=1e-2, abs=1e-4)


def test_the_optimum_of_a_slate_is_that_of_all_slates() -> None:
    here = market()
    environment = OnlineEnvironment(here, np.arange(APPLICANTS), np.arange(JOBS), 8, 3)
    some = np.array(list(combinations(range(8), 3)))
    expected: dict[str, list[np.ndarray]] = {"best": [], "chances": []}
    for step in range(4):  # from the second on, people are tired and jobs are gone
        seen = environment.observe(step)
        each = np.take_along_axis(here.chances(seen.candidates.numpy()), some.reshape(1, -1), axis=1)
        slates = each.reshape(APPLICANTS, len(some), 3).mean(axis=2)
        expected["best"].append(slates.max(axis=1))
        expected["chances"].append(slates[:, 0])
        best = here.chances(environment.best_slates().numpy()).mean(axis=1)
        assert best == pytest.approx(expected["best"][-1])
        environment.rewards(step, seen.applicants.repeat_interleave(3), seen.candidates[:, :3].flatten())
    assert here.gone.any()
    for name, values in expected.items():
        assert environment.record()[name] == pytest.approx(np.stack(values), abs=1e-6), name


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match=r"\[60, 150\] are not of 150 applicants x 60 jobs"):
        Market(UTILITIES, CATALOGUE, PEOPLE, 0)
    with pytest.raises(InputError, match="finite and not all the same"):
        Market(np.zeros_like(UTILITIES), PEOPLE, CATALOGUE, 0)
    with pytest.raises(InputError, match="151 candidates were asked for and an applicant has 150 jobs left"):
        market().candidates(0, JOBS + 1)
