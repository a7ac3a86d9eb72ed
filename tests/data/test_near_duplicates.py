"""Groups of near-duplicates: what brute force finds, whatever the order of the rows and the company they keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from dynaq.data.near_duplicates import THRESHOLD, groups, recall
from dynaq.errors import InputError

FIELDS, DIMENSION = 3, 24
COPIES, ROWS = 400, 1600
NO_TEXT: dict[str, str] = {}


def moved(rows: NDArray[np.float64], cosine: float, chance: np.random.Generator) -> NDArray[np.float64]:
    """Rows that have exactly this cosine with the given ones."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    aside = chance.normal(size=rows.shape)
    aside -= (aside * unit).sum(axis=1, keepdims=True) * unit
    return cosine * unit + np.sqrt(1 - cosine**2) * aside / np.linalg.norm(aside, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    """The last 400 rows are copies of the first 400: half of them near enough, half just not."""
    chance = np.random.default_rng(1)
    fields = chance.normal(size=(ROWS - COPIES, FIELDS, DIMENSION))
    rows = (fields / np.linalg.norm(fields, axis=2, keepdims=True)).reshape(-1, FIELDS * DIMENSION)
    near, far = moved(rows[: COPIES // 2], 0.99, chance), moved(rows[COPIES // 2 : COPIES], THRESHOLD - 0.005, chance)
    return np.concatenate([rows, near, far]).astype(np.float32)


def partition(numbers: NDArray[np.int64], names: NDArray[np.int64] | None = None) -> set[frozenset[int]]:
    members: dict[int, set[int]] = {}
    for number, name in zip(numbers.tolist(), range(len(numbers)) if names is None else names.tolist(), strict=True):
        members.setdefault(number, set()).add(name)
    return {frozenset(each) for each in members.values()}


def by_brute_force(vectors: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(connected_components(unit @ unit.T >= threshold)[1], np.int64)


def test_the_groups_are_those_of_all_pairs(vectors: NDArray[np.float32]) -> None:
    found = groups(vectors, [NO_TEXT] * ROWS)
    assert (found.dtype, found.shape, found.max() + 1) == (np.int64, (ROWS,), ROWS - COPIES // 2)
    assert partition(found) == partition(by_brute_force(vectors, THRESHOLD))


def test_equal_vectors_are_one_whatever_the_texts_say(vectors: NDArray[np.float32]) -> None:
    twice = np.concatenate([vectors[:50], 3 * vectors[:50]])
    found = groups(twice, [{"title": f"number {row}"} for row in range(100)], threshold=1)
    assert partition(found) == {frozenset({row, row + 50}) for row in range(50)}


def test_texts_are_equal_but_for_case_blanks_and_punctuation(vectors: NDArray[np.float32]) -> None:
    texts = [
        {"title": "Café manager", "skills": "SQL, Excel", "place": "Hauptstraße"},
        {"skills": "sql\n(excel)", "title": "CAFE\u0301  MANAGER!", "place": "HAUPTSTRASSE", "pay": "-"},
        {"title": "Café manager", "skills": "SQL, Excel 2", "place": "Hauptstraße"},
        {"title": "Café manager SQL, Excel"},
        {"title": "?!"},
        {"title": "..."},
        {},
        {},
    ]
    assert partition(groups(vectors[: len(texts)], texts)) == {frozenset({0, 1}), *map(frozenset, zip(range(2, 8)))}


def test_a_text_and_a_vector_link_three_rows(vectors: NDArray[np.float32]) -> None:
    rows = vectors[[0, ROWS - COPIES, 900, 901]]  # the second is a copy of the first
    texts = [{"title": "nurse"}, {"title": "night nurse"}, {"title": "Night Nurse"}, {"title": "cook"}]
    assert partition(groups(rows, texts)) == {frozenset({0, 1, 2}), frozenset({3})}


def test_the_order_of_rows_does_not_matter(vectors: NDArray[np.float32]) -> None:
    order = np.random.default_rng(2).permutation(ROWS)
    shuffled = groups(vectors[order], [NO_TEXT] * ROWS)
    assert partition(shuffled, order) == partition(groups(vectors, [NO_TEXT] * ROWS))


def test_rows_that_join_no_group_change_none(vectors: NDArray[np.float32]) -> None:
    strangers = np.random.default_rng(3).normal(size=(500, vectors.shape[1])).astype(np.float32)
    more = groups(np.concatenate([vectors, strangers]), [NO_TEXT] * (ROWS + 500))
    assert partition(more[:ROWS]) == partition(groups(vectors, [NO_TEXT] * ROWS))


@pytest.mark.parametrize("cosine", [0.951, 0.96, 0.97])
def test_pairs_are_found_as_often_as_the_closed_form_says(cosine: float) -> None:
    chance = np.random.default_rng(4)
    one = chance.normal(size=(1500, 96))
    pairs = np.concatenate([one, moved(one, cosine, chance)]).astype(np.float32)
    found = groups(pairs, [NO_TEXT] * 3000, threshold=0.95)
    spread = np.sqrt(recall(cosine) * (1 - recall(cosine)) / 1500)
    assert (found[:1500] == found[1500:]).mean() == pytest.approx(recall(cosine), abs=4 * spread)


def test_the_default_misses_less_than_one_in_a_hundred() -> None:
    assert 1 - recall(THRESHOLD) < 0.01
    assert 1 - recall(0.98) < 0.001
    assert recall(1) == 1


def test_a_crowd_of_copies_is_one_group(vectors: NDArray[np.float32]) -> None:
    copies = moved(np.repeat(vectors[:1], 6000, axis=0).astype(np.float64), 0.99, np.random.default_rng(5))
    rows = np.concatenate([copies, vectors[1:50]]).astype(np.float32)
    assert sorted(np.bincount(groups(rows, [NO_TEXT] * len(rows)))) == [1] * 49 + [6000]


def test_copies_are_found_in_a_crowd_that_resembles_them(tmp_path: Path) -> None:
    """All lie within 0.95 of each other, so that buckets are large; read from disk."""
    chance = np.random.default_rng(6)
    centre = np.repeat(chance.normal(size=(1, 256)), 4500, axis=0)
    crowd = moved(centre, 0.975, chance)
    rows = np.concatenate([crowd, moved(crowd[:300], 0.995, chance)]).astype(np.float32)
    rows.tofile(tmp_path / "rows.f32")
    mapped = np.memmap(tmp_path / "rows.f32", dtype=np.float32, mode="r", shape=rows.shape)
    assert partition(groups(mapped, [NO_TEXT] * 4800)) == partition(by_brute_force(rows, THRESHOLD))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.5}, "threshold of near-duplicates is 0.5: take one from 0.95 to 1"),
        ({"threshold": float("nan")}, "threshold of near-duplicates is nan"),
        ({"texts": [NO_TEXT]}, "there are 3 vectors and 1 texts"),
        ({"vectors": np.array([[1, 0], [0, 0], [0, 1]], np.float32)}, "vector of row 1 is zero or not finite"),
        ({"vectors": np.array([[1, 0], [0, 1], [0, np.nan]], np.float32)}, "vector of row 2 is zero or not finite"),
    ],
)
def test_bad_input_is_one_sentence(change: dict[str, object], message: str) -> None:
    given = {"vectors": np.eye(3, dtype=np.float32), "texts": [NO_TEXT] * 3} | change
    with pytest.raises(InputError, match=message):
        groups(**given)  # type: ignore[arg-type]
