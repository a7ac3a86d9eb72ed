"""What a ranking shows: how good the top is, how much of the catalogue it uses, how alike it is."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from dynaq.errors import InputError

TOP = 10

Floats = NDArray[np.float32]
Values = NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.floating[Any])


def ndcg(scores: ArrayLike, gains: ArrayLike, k: int = TOP) -> Values:
    """NDCG@k of each list (Jarvelin and Kekalainen 2002): gains as they are, discount 1 / log2(1 + rank).

    Equal scores favour nobody: the value is the mean over all orders of them (McSherry and Najork 2008). So is that
    of sklearn.metrics.ndcg_score, but it returns one mean over all lists, and intervals need the value of each.

    Args:
        scores: [A, n], larger is better; minus infinity where a list has ended.
        gains: [A, n], 0 and above, and 0 where a list has ended.
        k: ranks that count.

    Returns:
        float64 [A]; NaN where all gains are 0.
    """
    gained = np.asarray(gains, dtype=np.float64)
    ideal = _dcg(gained, gained, k)
    reached = _dcg(np.asarray(scores), gained, k)
    share: Values = np.divide(reached, ideal, out=np.full(len(ideal), np.nan), where=ideal > 0)
    return share


def _dcg(scores: NDArray[Any], gains: Values, k: int) -> Values:
    """Each job has the mean discount of the ranks that those of its score share: [A, n], [A, n] -> [A]."""
    discounts = 1 / np.log2(np.arange(2, scores.shape[1] + 2))
    discounts[k:] = 0
    up_to = np.concatenate([[0.0], np.cumsum(discounts)])
    first, last = (stats.rankdata(-scores, method=which, axis=1).astype(np.int64) for which in ("min", "max"))
    total: Values = (gains * (up_to[last] - up_to[first - 1]) / (last - first + 1)).sum(axis=1)
    return total


def finite(scores: NDArray[Scalar], who: str) -> NDArray[Scalar]:
    """The scores as they are; nothing orders those that are no numbers, and the first columns would be on top.

    Raises:
        InputError: a score is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise InputError(
            f"{who} gives scores that are no finite numbers: its training has diverged; lower agent.learning_rate"
        )
    return scores


def top(scores: NDArray[Any], k: int = TOP) -> NDArray[np.int64]:
    """The k best columns of each row, best first; the first of equals: [A, J] -> int64 [A, k]."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def coverage(scores: Floats) -> float:
    """Share of the panel's jobs that are in anybody's top ten."""
    return float(len(np.unique(top(scores))) / scores.shape[1])


def diversity(scores: Floats, looks: Floats) -> float:
    """1 - mean cosine of two jobs of a top ten (Ziegler et al. 2005): [A, J], unit rows [J, T] -> number."""
    lists = looks[top(scores)]
    k = lists.shape[1]
    if k < 2:
        return float("nan")
    between = (lists.sum(axis=1) ** 2).sum(axis=1) - (lists**2).sum(axis=(1, 2))
    return 1 - float(between.mean(dtype=np.float64)) / float(k * (k - 1))


def gini(shown: NDArray[np.int64], jobs: int) -> float:
    """Inequality of exposure over jobs, 0 if all are shown equally often, near 1 if one gets everything."""
    exposure = np.sort(np.bincount(shown.ravel(), minlength=jobs))
    rank = np.arange(1, jobs + 1)
    return float(((2 * rank - jobs - 1) * exposure).sum()) / float(jobs * exposure.sum())


def share_of_best(chosen: Floats, offered: Floats) -> float:
    """Worth of what was chosen among what was offered, 0 as good as random and 1 the best: [A], [A, n] -> number."""
    random, best = offered.mean(dtype=np.float64), offered.max(axis=1).mean(dtype=np.float64)
    return float((chosen.mean(dtype=np.float64) - random) / (best - random)) if best > random else float("nan")
