"""Metrics of rankings: by hand, over all orders of equal scores, and beside sklearn's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from dynaq.evaluation.judges.judged import SameForAll, hit, ranked
from dynaq.evaluation.judges.ranking import coverage, diversity, gini, ndcg, share_of_best
from dynaq.evaluation.judges.relevance import Lists


def test_ndcg_by_hand() -> None:
    # Ranks: grade 0, 1, 0 | 3 comes fourth. DCG@3 = 1 / log2(3); the best order has 7 + 1 / log2(3).
    scores, grades = np.array([[0.1, 0.9, 0.5, 0.3]]), np.array([[3, 0, 1, 0]], np.float32)
    gains = 2**grades - 1
    assert ndcg(scores, gains, 3) == pytest.approx([0.6309297536 / 7.6309297536])
    assert hit(scores, grades, 1).tolist() == [0.0]
    assert hit(scores, grades, 2).tolist() == [1.0]
    assert ndcg(np.array([[4.0, 1, 3, 2]]), gains, 3).tolist() == [1.0]
    assert np.isnan(ndcg(scores, np.zeros((1, 4)))).all()
    # A judge's grades gain 2^grade - 1 each: that of 3 comes fourth.
    lists = Lists(np.array([0]), np.arange(4)[None], grades, np.ones((1, 4), np.bool_))
    found = ranked(SameForAll(scores[0].astype(np.float32)), lists)["NDCG@10"]
    assert found == pytest.approx([(0.6309297536 + 7 / np.log2(5)) / 7.6309297536])


def test_equal_scores_get_the_mean_over_their_orders() -> None:
    alike, grades = np.zeros((1, 4)), np.array([[0, 1, 0, 0]], np.float32)
    assert hit(alike, grades, 2).tolist() == [0.5]
    assert ndcg(alike, grades, 2) == pytest.approx([(1 + 0.6309297536) / 4])
    chance = np.random.default_rng(0)
    for _ in range(5):
        scores, grades = chance.integers(3, size=(1, 6)).astype(float), chance.integers(3, size=(1, 6)).astype("f4")
        grades[0, 0] = 2
        orders = scores + 1e-6 * np.array(list(itertools.permutations(range(6))))
        for metric in (ndcg, hit):
            mean = metric(orders, grades.repeat(len(orders), axis=0), 2).mean()
            assert metric(scores, grades, 2)[0] == pytest.approx(mean)


def test_ndcg_is_that_of_sklearn_and_ends_where_the_list_does() -> None:
    chance = np.random.default_rng(1)
    scores, grades = chance.integers(9, size=(30, 25)).astype(float), chance.integers(4, size=(30, 25)).astype("f4")
    theirs = [ndcg_score([g], [s], k=10) for g, s in zip(grades, scores, strict=True)]
    assert ndcg(scores, grades) == pytest.approx(theirs)
    longer = np.pad(scores, ((0, 0), (0, 7)), constant_values=-np.inf), np.pad(grades, ((0, 0), (0, 7)))
    assert ndcg(*longer) == pytest.approx(theirs)
    assert hit(*longer) == pytest.approx(hit(scores, grades))
    assert hit(longer[0][:, 20:], longer[1][:, 20:]) == pytest.approx((grades[:, 20:] >= 1).any(axis=1) * 1.0)


def test_coverage_counts_jobs_in_any_top_ten() -> None:
    scores = np.zeros((2, 40), np.float32)
    scores[0, :10], scores[1, 5:15] = 1, 1
    assert coverage(scores) == pytest.approx(15 / 40)
    assert coverage(scores[:1]) == pytest.approx(10 / 40)


def test_diversity_is_one_less_the_mean_cosine_of_two() -> None:
    # Ten jobs of two looks at a right angle, four and six: 6 + 15 of the 45 pairs have cosine 1, the others 0.
    looks = np.zeros((20, 2), np.float32)
    looks[:4, 0], looks[4:10, 1] = 1, 1
    looks[10:] = np.sqrt([0.5, 0.5])
    first, others = np.arange(20, 0, -1, dtype=np.float32), np.arange(20, dtype=np.float32)
    assert diversity(first[None], looks) == pytest.approx(1 - 21 / 45)
    assert diversity(others[None], looks) == pytest.approx(0, abs=1e-6)  # all alike
    assert diversity(np.stack([first, others]), looks) == pytest.approx((1 - 21 / 45) / 2, abs=1e-6)
    assert np.isnan(diversity(np.ones((1, 1), np.float32), looks[:1]))


def test_gini_by_hand() -> None:
    assert gini(np.array([0, 1, 2, 3, 3, 2, 1, 0]), 4) == 0
    assert gini(np.zeros(9, np.int64), 4) == pytest.approx(3 / 4)  # one of n has all: 1 - 1 / n
    # Shown 0, 1 and 3 times: two drawn with replacement differ by 12 / 9 on average, half of twice the mean.
    assert gini(np.array([1, 2, 2, 2]), 3) == pytest.approx(1 / 2)


def test_a_share_of_the_best_begins_at_a_random_choice() -> None:
    offered = np.array([[0.0, 0.5, 1.0], [0.2, 0.2, 0.8]], np.float32)  # random 0.45, best 0.9
    chosen = [np.array(one, np.float32) for one in ([1.0, 0.8], [0.5, 0.4], [0.0, 0.2])]
    assert [share_of_best(one, offered) for one in chosen] == pytest.approx([1, 0, -0.35 / 0.45])
    assert np.isnan(share_of_best(chosen[0], np.ones((2, 3), np.float32)))
