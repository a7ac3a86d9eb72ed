"""The held-out market: same luck for all, rates as promised, learnable from words but no text similarity."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dynaq.errors import InputError
from dynaq.evaluation.simulator import WEIGHTS, SimulatedMarket
from dynaq.evaluation.traits import MarketTraits, read_traits

JOBS, APPLICANTS, FIELDS = 400, 150, 12
STRUCTURED = ("seniority", "place", "remote", "pay", "pay_floor")


def texts(seed: int = 0) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Applicants and jobs of twelve fields, each field with twelve words of its own."""
    rng = np.random.default_rng(seed)

    def words(field: int, count: int) -> str:
        return " ".join(f"word{field:02d}x{number:02d}" for number in rng.permutation(12)[:count])

    def person(pay: str) -> dict[str, str]:
        return {
            "seniority": str(rng.choice(["junior", "mid", "senior", "lead"])),
            "place": str(rng.choice(["Lyon", "Paris", "Lille", "Nice"])),
            "remote": str(rng.choice(["yes", "hybrid", "no"])),
            pay: str(rng.integers(25, 90) * 1000),
        }

    def field() -> int:
        return int(rng.integers(FIELDS))

    applicants = [{"hard_skills": words(field(), 6), **person("pay_floor")} for _ in range(APPLICANTS)]
    jobs = [{"title": words(f := field(), 2), "skills": words(f, 6), **person("pay")} for _ in range(JOBS)]
    return applicants, jobs


def ids(kind: str, count: int) -> list[str]:
    return [f"{kind}-{number}" for number in range(count)]


@pytest.fixture(scope="module")
def traits() -> MarketTraits:
    return read_traits(*texts(), ids("a", APPLICANTS), ids("j", JOBS))


@pytest.fixture(scope="module")
def market(traits: MarketTraits) -> SimulatedMarket:
    return SimulatedMarket(traits, seed=3)


def everyone(n: int, market: SimulatedMarket, step: int = 0) -> tuple[np.ndarray, np.ndarray]:
    applicants = np.arange(APPLICANTS)
    return applicants, market.candidates(step, applicants, n)


def test_same_pair_and_step_get_the_same_answer_in_any_batch(market: SimulatedMarket) -> None:
    applicants, jobs = everyone(50, market)
    probability = market.interaction_probability(applicants, jobs)
    answers = market.interactions(7, applicants, jobs)
    order = np.random.default_rng(0).permutation(APPLICANTS)
    assert np.array_equal(market.interactions(7, applicants[order], jobs[order, ::-1]), answers[order, ::-1])
    for row, column in ((0, 0), (17, 49), (149, 23)):  # to the last bit, also alone
        one = applicants[[row]], jobs[[row], column]
        assert market.interaction_probability(*one)[0] == probability[row, column]
        assert market.interactions(7, *one)[0] == answers[row, column]
    assert not np.array_equal(market.interactions(8, applicants, jobs), answers)


def test_chunks_do_not_show(market: SimulatedMarket, monkeypatch: pytest.MonkeyPatch) -> None:
    applicants, jobs = everyone(50, market)
    whole = market.interaction_probability(applicants, jobs)
    monkeypatch.setattr("dynaq.evaluation.simulator.CHUNK", 61)
    assert np.array_equal(market.interaction_probability(applicants, jobs), whole)


def test_answers_follow_ids_not_rows(traits: MarketTraits, market: SimulatedMarket) -> None:
    applicants, jobs = texts()
    moved = SimulatedMarket(read_traits(applicants, jobs[::-1], ids("a", APPLICANTS), ids("j", JOBS)[::-1]), 3)
    a, j = np.arange(APPLICANTS), np.arange(APPLICANTS)
    luck, moved_luck = market.terms(a, j)["luck"], moved.terms(a, JOBS - 1 - j)["luck"]
    assert np.corrcoef(luck, moved_luck)[0, 1] == pytest.approx(1)


def test_answers_come_at_the_rate_of_their_probability(market: SimulatedMarket) -> None:
    applicants, jobs = everyone(40, market)
    expected = market.interaction_probability(applicants, jobs)
    steps = 60
    seen = np.mean([market.interactions(step, applicants, jobs) for step in range(steps)], axis=0)
    error = (seen - expected) / np.sqrt(expected * (1 - expected) / steps)
    assert abs(error.mean()) < 0.05
    assert error.std() == pytest.approx(1, abs=0.05)


def test_rates_are_as_calibrated(traits: MarketTraits) -> None:
    for seed in range(3):
        market = SimulatedMarket(traits, seed)
        probability = market.interaction_probability(*everyone(50, market))
        assert probability.dtype == np.float32
        assert 0.07 < probability.mean() < 0.13
        assert 0.5 < probability.max(axis=1).mean() < 0.8


def test_candidates_are_distinct_uniform_and_repeatable(market: SimulatedMarket) -> None:
    draws = [everyone(20, market, step)[1] for step in range(100)]
    assert all(len(set(row)) == 20 for row in draws[0])
    counts = np.stack([np.bincount(np.stack(draws)[:, :, place].ravel(), minlength=JOBS) for place in (0, 19)])
    assert chisquare(counts[0]).pvalue > 1e-4
    assert chisquare(counts[1]).pvalue > 1e-4
    assert np.array_equal(market.candidates(5, np.array([9, 4]), 20), draws[5][[9, 4]])
    assert sorted(market.candidates(0, np.array([0]), JOBS)[0]) == list(range(JOBS))


def test_another_seed_is_another_market(traits: MarketTraits, market: SimulatedMarket) -> None:
    other = SimulatedMarket(traits, seed=4)
    applicants, jobs = everyone(50, market)
    assert not np.array_equal(other.candidates(0, applicants, 50), jobs)
    both = np.stack([one.interaction_probability(applicants, jobs).ravel() for one in (market, other)])
    assert 0.2 < np.corrcoef(both)[0, 1] < 0.9  # the match is common to both, tastes are not


def digest(market: SimulatedMarket) -> str:
    applicants, jobs = everyone(50, market, step=2)
    answers = market.interactions(2, applicants, jobs), market.interaction_probability(applicants, jobs)
    return hashlib.sha256(b"".join(array.tobytes() for array in (jobs, *answers))).hexdigest()


def test_same_bits_in_another_process_with_other_threads(market: SimulatedMarket) -> None:
    code = (
        "import test_simulator as here; from dynaq.evaluation.traits import read_traits;"
        "traits = read_traits(*here.texts(), here.ids('a', here.APPLICANTS), here.ids('j', here.JOBS));"
        "print(here.digest(here.SimulatedMarket(traits, 3)))"
    )
    other = {"PYTHONPATH": os.path.dirname(__file__), "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "5"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **other}, check=True, capture_output=True, text=True
    )
    assert ran.stdout.strip() == digest(market)


def test_utility_can_be_learned_from_words_but_is_no_text_similarity(market: SimulatedMarket) -> None:
    applicant_texts, job_texts = texts()
    vectorizer = TfidfVectorizer().fit([text["skills"] for text in job_texts])
    left = vectorizer.transform([text["hard_skills"] for text in applicant_texts]).toarray()
    right = vectorizer.transform([f"{text['title']} {text['skills']}" for text in job_texts]).toarray()
    cosine = left @ right.T

    # Fields are groups of twelve words: pairs of fields are the features of content.
    fields = sorted({word[:6] for word in vectorizer.get_feature_names_out()})
    group = np.array([[word.startswith(field) for field in fields] for word in vectorizer.get_feature_names_out()])
    of_applicant, of_job = left @ group, right @ group

    applicants, jobs = everyone(100, market)
    answers = market.interactions(0, applicants, jobs)
    pairs = (of_applicant[:, None, :, None] * of_job[jobs][:, :, None, :]).reshape(*jobs.shape, -1)
    known, held_out = slice(0, 100), slice(100, None)
    learned = (
        LogisticRegression(max_iter=500)
        .fit(pairs[known].reshape(-1, pairs.shape[-1]), answers[known].ravel())
        .predict_proba(pairs[held_out].reshape(-1, pairs.shape[-1]))[:, 1]
    )
    truth = answers[held_out].ravel()
    similar = cosine[applicants[:, None], jobs]
    by_similarity = roc_auc_score(truth, similar[held_out].ravel())
    assert roc_auc_score(truth, learned) > by_similarity + 0.05 > 0.6

    utility = sum(
        market.terms(np.repeat(applicants, 100), jobs.ravel()).values(), start=np.zeros(jobs.size, np.float32)
    )
    assert 0.2 < np.corrcoef(utility, similar.ravel())[0, 1] < 0.7


def test_a_weight_is_about_a_share_of_variance(market: SimulatedMarket) -> None:
    applicants, jobs = everyone(100, market)
    terms = market.terms(np.repeat(applicants, 100), jobs.ravel())
    assert {name: round(float(values.var()), 1) for name, values in terms.items()} == pytest.approx(
        {name: round(weight, 1) for name, weight in WEIGHTS.items()}, abs=0.11
    )


def test_places_pay_and_seniority_count() -> None:
    applicant = {
        "hard_skills": "python",
        "place": "Lyon",
        "pay_floor": "50k",
        "seniority": "senior",
        "remote": "no",
    }
    good = {"title": "engineer", "place": "lyon ", "pay": "60,000 EUR", "seniority": "Senior", "remote": "no"}
    worse = {"place": "Paris", "pay": "40000 - 45000", "seniority": "junior"}
    jobs = [
        good,
        *({**good, label: value} for label, value in worse.items()),
        {**good, "remote": "yes", "place": "Paris"},
    ]
    market = SimulatedMarket(read_traits([applicant] * 3, jobs, ids("a", 3), ids("j", len(jobs))), 0)
    terms = market.terms(np.zeros(len(jobs), dtype=np.int64), np.arange(len(jobs)))
    for row, name in enumerate(("commute", "pay", "seniority"), start=1):
        assert terms[name][row] < terms[name][0]
        assert terms[name][row] == terms[name].min()
    assert terms["commute"][-1] == terms["commute"][0]


def test_absent_labels_add_nothing() -> None:
    applicants, jobs = texts()
    plain = [
        {label: value for label, value in text.items() if label not in STRUCTURED} for text in (*applicants, *jobs)
    ]
    market = SimulatedMarket(
        read_traits(plain[:APPLICANTS], plain[APPLICANTS:], ids("a", APPLICANTS), ids("j", JOBS)), 0
    )
    assert not {"commute", "pay", "seniority"} & set(market.terms(np.array([0]), np.array([0])))
    assert 0.07 < market.interaction_probability(*everyone(50, market)).mean() < 0.13

    half = [text if row % 2 else {"title": text["title"]} for row, text in enumerate(jobs)]
    partly = SimulatedMarket(read_traits(applicants, half, ids("a", APPLICANTS), ids("j", JOBS)), 0)
    terms = partly.terms(np.zeros(2, dtype=np.int64), np.arange(2))
    assert [terms[name][0] for name in ("commute", "pay", "seniority")] == [0, 0, 0]
    assert all(np.isfinite(values).all() for values in terms.values())


@pytest.mark.parametrize("job_texts", [[{}], [{}] * 5, [{"title": "the same"}] * 5, [{"title": ""}, {"pay": "none"}]])
def test_the_poorest_texts_still_make_a_market(job_texts: list[dict[str, str]]) -> None:
    market = SimulatedMarket(read_traits([{}, {"pay_floor": "0"}], job_texts, ["a", "b"], ids("j", len(job_texts))), 0)
    everything = np.tile(np.arange(len(job_texts)), (2, 1))
    probability = market.interaction_probability(np.arange(2), everything)
    assert np.isfinite(probability).all()
    assert 0 < probability.mean() < 0.5


def test_nobody_asking_is_no_error(market: SimulatedMarket) -> None:
    none = np.zeros(0, dtype=np.int64)
    assert market.interactions(0, none, none).shape == (0,)
    assert market.candidates(0, none, 5).shape == (0, 5)


def test_bad_input_is_named(traits: MarketTraits, market: SimulatedMarket) -> None:
    one, two = np.array([0]), np.array([0, 1])
    with pytest.raises(InputError, match="seed of the simulated market is -1"):
        SimulatedMarket(traits, -1)
    with pytest.raises(InputError, match="401 candidates were asked for, the catalogue allows 1 to 400"):
        market.candidates(0, one, JOBS + 1)
    with pytest.raises(InputError, match="step is -1"):
        market.interactions(-1, one, one)
    with pytest.raises(InputError, match="job row 400 is not in the simulated market, which has 400"):
        market.interaction_probability(one, np.array([JOBS]))
    with pytest.raises(InputError, match="applicant row -1"):
        market.candidates(0, np.array([-1]), 5)
    with pytest.raises(InputError, match=r"applicants \[1\] and jobs \[2\]"):
        market.interaction_probability(one, two)
    with pytest.raises(InputError, match="at least one job"):
        read_traits([{}], [], ["a"], [])
    with pytest.raises(InputError, match="1 applicant texts, but 2 ids"):
        read_traits([{}], [{}], ["a", "b"], ["j"])


def test_it_never_meets_a_training_reward() -> None:
    code = "import sys, dynaq.evaluation.simulator; print(*sorted(m for m in sys.modules if 'dynaq.' in m))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert loaded == [
        "dynaq.errors",
        "dynaq.evaluation",
        "dynaq.evaluation.draws",
        "dynaq.evaluation.simulator",
        "dynaq.evaluation.traits",
    ]
