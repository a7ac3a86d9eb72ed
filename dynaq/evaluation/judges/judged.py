"""How far up each arm ranks what is relevant, and whether arms differ by more than chance.

The applicant is the unit here: its list is ranked by every arm, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from dynaq.errors import InputError
from dynaq.evaluation.judges.ranking import TOP, finite, ndcg
from dynaq.evaluation.judges.relevance import RELEVANT, Lists
from dynaq.evaluation.study.statistics import bootstrapped
from dynaq.protocols import Recommender

_PAIRS = 10_000  # scored at once: a network's activations are wide

Floats = NDArray[np.float64]
Metric = Literal["NDCG@10", "hit@10"]


@dataclass(frozen=True)
class ArmRelevance:
    """One arm on one metric.

    Attributes:
        mean: over applicants.
        low, high: 95% percentile bootstrap interval over applicants.
        p: reference -> two-sided p of the paired difference to it, not adjusted for the number of arms.
    """

    arm: str
    metric: Metric
    mean: float
    low: float
    high: float
    p: dict[str, float]


class SameForAll:
    """A recommender with one score a job: its popularity; or 0 for all, which is random choice without its noise."""

    def __init__(self, scores: NDArray[np.float32]) -> None:
        """Scores float32 [M] of the snapshot's jobs."""
        self._scores = torch.from_numpy(scores)

    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        """As Recommender."""
        return self._scores[jobs]


def compare(
    arms: Mapping[str, Mapping[Metric, Floats]], against: Sequence[str] = ("raw cosine", "random")
) -> list[ArmRelevance]:
    """Two rows an arm, one a metric.

    Args:
        arms: name -> metric -> float64 [A], of `ranked`; of an arm with several seeds, the mean over them.
        against: names of the arms that all are tested against; not themselves.

    Raises:
        InputError: a reference is not among the arms, or there are fewer than two applicants.
    """
    if absent := [name for name in against if name not in arms]:
        raise InputError(f"arms are tested against {', '.join(absent)}, which is not among {', '.join(arms)}")
    table = []
    for name, metrics in arms.items():
        for metric, values in metrics.items():
            if len(values) < 2:
                raise InputError(f"{len(values)} applicant has a relevant job, and an interval needs two: grade more")
            found = bootstrapped(values)
            p = {other: permutation_test(values, arms[other][metric]) for other in against if other != name}
            table.append(ArmRelevance(name, metric, found.mean, found.low, found.high, p))
    return table


def ranked(arm: Recommender, lists: Lists, name: str = "the arm") -> dict[Metric, Floats]:
    """Metrics of each list, float64 [A].

    Raises:
        InputError: a score is no finite number.
    """
    rows = max(1, _PAIRS // lists.jobs.shape[1])
    applicants, jobs = torch.from_numpy(lists.applicants), torch.from_numpy(lists.jobs)
    parts = [slice(start, start + rows) for start in range(0, len(applicants), rows)]
    with torch.no_grad():
        batches = [arm.scores(applicants[part], jobs[part]) for part in parts]
    scores = finite(torch.cat(batches).double().cpu().numpy(), name)
    scores[~lists.listed] = -np.inf
    gains = np.exp2(lists.grades.astype(np.float64)) - 1  # Burges et al. 2005
    return {"NDCG@10": ndcg(scores, gains), "hit@10": hit(scores, lists.grades)}


def hit(scores: Floats, grades: NDArray[np.float32], k: int = TOP) -> Floats:
    """Whether a job of grade 1 or more is among the first k: 0 or 1, and its chance where equal scores cross rank k.

    Args:
        scores: [A, n], larger is better; minus infinity where a list has ended.
        grades: [A, n].
        k: ranks that count.

    Returns:
        float64 [A].
    """
    relevant = grades >= RELEVANT
    k = min(k, scores.shape[1])
    at_k = np.sort(scores, axis=1)[:, -k, None]
    above, level = scores > at_k, scores == at_k
    places = k - above.sum(axis=1)  # for those that are level
    # Drawn without replacement: the chance that at least one of them is relevant.
    chance = stats.hypergeom.sf(0, level.sum(axis=1), (level & relevant).sum(axis=1), places)
    found: Floats = np.where((above & relevant).any(axis=1), 1.0, chance)
    return found


def permutation_test(first: Floats, second: Floats, seed: int = 0) -> float:
    """Two-sided p of a mean paired difference, its signs flipped at random; both [A], the same applicants.

    Exact where there are no more than 10,000 ways to flip them.
    """
    differences = (np.asarray(first) - np.asarray(second),)
    flipped = stats.permutation_test(
        differences,
        np.mean,
        permutation_type="samples",
        n_resamples=10_000,
        batch=1000,  # at once in memory
        vectorized=True,
        random_state=np.random.default_rng(seed),
    )
    return float(flipped.pvalue)
