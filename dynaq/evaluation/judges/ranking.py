"""What a ranking of the whole panel shows: how good the top is, how much of the catalogue it uses, how alike it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOP = 10

Floats = NDArray[np.float32]


def ndcg(scores: Floats, gains: Floats) -> NDArray[np.float64]:
    """NDCG@10 of each applicant (Jarvelin & Kekalainen 2002), with gains as they are: both [A, J] -> float64 [A].

    ``sklearn.metrics.ndcg_score`` gives the mean over applicants only, and intervals need each.
    """
    k = min(TOP, scores.shape[1])
    discount = 1 / np.log2(np.arange(2, k + 2))
    chosen = np.take_along_axis(gains, top(scores), axis=1)
    ideal = -np.sort(-gains, axis=1)[:, :k]
    reached: NDArray[np.float64] = (chosen * discount).sum(axis=1) / (ideal * discount).sum(axis=1)
    return reached


def top(scores: Floats) -> NDArray[np.int64]:
    """The ten best columns of each row, best first; the first of equals: [A, J] -> int64 [A, 10]."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :TOP]


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
