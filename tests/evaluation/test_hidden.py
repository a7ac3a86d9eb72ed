"""Hidden utilities: the same for the same ids, learnable from words but no text similarity, apart from all rewards."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dynaq.errors import InputError
from dynaq.evaluation.market.hidden import WEIGHTS, HiddenUtilities
from dynaq.evaluation.market.traits import MarketTraits, read_traits

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
def hidden(traits: MarketTraits) -> HiddenUtilities:
    return HiddenUtilities(traits, seed=3)


PEOPLE, CATALOGUE = np.arange(APPLICANTS), np.arange(JOBS)


def test_a_pair_has_the_same_utility_in_any_batch(hidden: HiddenUtilities, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hidden.matrix(PEOPLE, CATALOGUE)
    assert (whole.shape, whole.dtype) == ((APPLICANTS, JOBS), np.float32)
    rows, columns = np.array([17, 3, 149]), np.array([399, 0, 7, 250])
    assert np.array_equal(hidden.matrix(rows, columns), whole[np.ix_(rows, columns)])  # to the last bit
    monkeypatch.setattr("dynaq.evaluation.market.hidden.CHUNK", 61)
    assert np.array_equal(hidden.matrix(PEOPLE, CATALOGUE), whole)
    assert hidden.matrix(PEOPLE[:0], CATALOGUE).shape == (0, JOBS)


def test_luck_follows_ids_not_rows(hidden: HiddenUtilities) -> None:
    applicants, jobs = texts()
    moved = HiddenUtilities(read_traits(applicants, jobs[::-1], ids("a", APPLICANTS), ids("j", JOBS)[::-1]), 3)
    a, j = np.arange(APPLICANTS), np.arange(APPLICANTS)
    luck, moved_luck = hidden.terms(a, j)["luck"], moved.terms(a, JOBS - 1 - j)["luck"]
    assert np.corrcoef(luck, moved_luck)[0, 1] == pytest.approx(1)


def test_another_seed_is_another_market(traits: MarketTraits, hidden: HiddenUtilities) -> None:
    both = np.stack([one.matrix(PEOPLE, CATALOGUE).ravel() for one in (hidden, HiddenUtilities(traits, seed=4))])
    assert 0.2 < np.corrcoef(both)[0, 1] < 0.9  # the match is common to both, tastes are not


def digest(hidden: HiddenUtilities) -> str:
    return hashlib.sha256(hidden.matrix(PEOPLE, CATALOGUE).tobytes()).hexdigest()


def test_same_bits_in_another_process_with_other_threads(hidden: HiddenUtilities) -> None:
    code = (
        "import test_hidden as here; from dynaq.evaluation.market.traits import read_traits;"
        "traits = read_traits(*here.texts(), here.ids('a', here.APPLICANTS), here.ids('j', here.JOBS));"
        "print(here.digest(here.HiddenUtilities(traits, 3)))"
    )
    other = {"PYTHONPATH": os.path.dirname(__file__), "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "5"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **other}, check=True, capture_output=True, text=True
    )
    assert ran.stdout.strip() == digest(hidden)


def test_utility_can_be_learned_from_words_but_is_no_text_similarity(hidden: HiddenUtilities) -> None:
    applicant_texts, job_texts = texts()
    vectorizer = TfidfVectorizer().fit([text["skills"] for text in job_texts])
    left = vectorizer.transform([text["hard_skills"] for text in applicant_texts]).toarray()
    right = vectorizer.transform([f"{text['title']} {text['skills']}" for text in job_texts]).toarray()
    cosine = left @ right.T

    # Fields are groups of twelve words: pairs of fields are the features of content.
    fields = sorted({word[:6] for word in vectorizer.get_feature_names_out()})
    group = np.array([[word.startswith(field) for field in fields] for word in vectorizer.get_feature_names_out()])
    of_applicant, of_job = left @ group, right @ group

    utility = hidden.matrix(PEOPLE, CATALOGUE)
    wanted = (utility > np.quantile(utility, 0.9)).astype(int)
    pairs = (of_applicant[:, None, :, None] * of_job[None, :, None, :]).reshape(APPLICANTS, JOBS, -1)[:, ::4]
    known, held_out = slice(0, 100), slice(100, None)
    learned = (
        LogisticRegression(max_iter=500)
        .fit(pairs[known].reshape(-1, pairs.shape[-1]), wanted[known, ::4].ravel())
        .predict_proba(pairs[held_out].reshape(-1, pairs.shape[-1]))[:, 1]
    )
    truth = wanted[held_out, ::4].ravel()
    by_similarity = roc_auc_score(truth, cosine[held_out, ::4].ravel())
    assert roc_auc_score(truth, learned) > by_similarity + 0.05 > 0.6
    assert 0.2 < np.corrcoef(utility.ravel(), cosine.ravel())[0, 1] < 0.7


def test_a_weight_is_about_a_share_of_variance(hidden: HiddenUtilities) -> None:
    terms = hidden.terms(np.repeat(PEOPLE, JOBS), np.tile(CATALOGUE, APPLICANTS))
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
    market = HiddenUtilities(read_traits([applicant] * 3, jobs, ids("a", 3), ids("j", len(jobs))), 0)
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
    market = HiddenUtilities(
        read_traits(plain[:APPLICANTS], plain[APPLICANTS:], ids("a", APPLICANTS), ids("j", JOBS)), 0
    )
    assert not {"commute", "pay", "seniority"} & set(market.terms(np.array([0]), np.array([0])))
    assert market.matrix(PEOPLE, CATALOGUE).std() == pytest.approx(1, abs=0.1)

    half = [text if row % 2 else {"title": text["title"]} for row, text in enumerate(jobs)]
    partly = HiddenUtilities(read_traits(applicants, half, ids("a", APPLICANTS), ids("j", JOBS)), 0)
    terms = partly.terms(np.zeros(2, dtype=np.int64), np.arange(2))
    assert [terms[name][0] for name in ("commute", "pay", "seniority")] == [0, 0, 0]
    assert all(np.isfinite(values).all() for values in terms.values())


@pytest.mark.parametrize("job_texts", [[{}], [{}] * 5, [{"title": "the same"}] * 5, [{"title": ""}, {"pay": "none"}]])
def test_the_poorest_texts_still_make_a_market(job_texts: list[dict[str, str]]) -> None:
    market = HiddenUtilities(read_traits([{}, {"pay_floor": "0"}], job_texts, ["a", "b"], ids("j", len(job_texts))), 0)
    assert np.isfinite(market.matrix(np.arange(2), np.arange(len(job_texts)))).all()


def test_bad_input_is_named(traits: MarketTraits, hidden: HiddenUtilities) -> None:
    with pytest.raises(InputError, match="seed of the simulated market is -1"):
        HiddenUtilities(traits, -1)
    with pytest.raises(InputError, match="job row 400 is not in the simulated market, which has 400"):
        hidden.matrix(np.array([0]), np.array([JOBS]))
    with pytest.raises(InputError, match="applicant row -1"):
        hidden.terms(np.array([-1]), np.array([0]))
    with pytest.raises(InputError, match="at least one job"):
        read_traits([{}], [], ["a"], [])
    with pytest.raises(InputError, match="1 applicant texts, but 2 ids"):
        read_traits([{}], [{}], ["a", "b"], ["j"])


@pytest.mark.parametrize("module", ["hidden", "market", "dial"])
def test_it_never_meets_a_training_reward(module: str) -> None:
    code = f"import sys, dynaq.evaluation.market.{module}; print(*sorted(m for m in sys.modules if 'dynaq.' in m))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    package = "dynaq.evaluation.market"
    alone = {"dynaq.errors", "dynaq.evaluation", package, f"{package}.draws", f"{package}.traits"}
    assert set(loaded) <= alone | {f"{package}.{module}"}
