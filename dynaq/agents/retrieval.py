"""Retrieve, then re-rank: the nearest n jobs by cosine, put in order by the network.

The mean cosine over the configured pairs is an inner product: each job keeps its fields at length 1, side by side,
and the applicant sends for each of them the sum of the fields it is paired with. Where the cosine reward is that of two
concatenations, this is the mean of the cosines of their fields: the same order when a row's fields are of one length.

The index is faiss (MIT, wheels for Linux, macOS and Windows): an inverted file of lists of about 1,000 jobs, vectors
in half precision, which found the same neighbours as float32 in less time. Considered besides: usearch (Apache-2.0,
wheels), a graph index. Of the nearest 1,000 among 20,000 made-up jobs of 2 x 384 it found 92 % in 9.6 ms, where faiss
found 69 % of them in 2.2 ms with half of its lists; but it took 20 s of CPU to build and faiss 0.3 s, and an index is
built for every snapshot. hnswlib has had no release since 2023 and no wheels.

What the first stage leaves out the network never sees: recall is measured (``measured_recall``), not assumed.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynaq.agents.catalogue import Catalogue, TopK
from dynaq.errors import InputError, MissingDependencyError
from dynaq.mdp.features import FeatureSpace

try:
    faiss: Any = importlib.import_module("faiss")  # untyped: its stubs know neither cp nor nprobe
except ModuleNotFoundError:
    raise MissingDependencyError("the vector index is not installed: pip install 'dynaq[retrieval]'") from None

_LIST_JOBS = 1000  # jobs of one list, on average
_TRAINING_JOBS = 64  # for each list, jobs that its centre is learnt from
_ADDED_AT_ONCE = 16384


class JobIndex:
    """The jobs of a feature space by cosine. It depends on no network: one for a snapshot serves every checkpoint.

    Args:
        space: the jobs and the pairs; an applicant's state must come from the same space.
        probes: lists looked through for an applicant; more find more and take longer.

    Raises:
        InputError: the space has no job or no pair, or probes is below 1.
    """

    def __init__(self, space: FeatureSpace, probes: int) -> None:
        if not space.pairs or len(space.actions) == 0:
            raise InputError(f"a job index needs jobs and cosine pairs, found {len(space.actions)} and {space.pairs}")
        if probes < 1:
            raise InputError(f"probes is {probes}: at least 1 list must be looked through")
        self._pairs, self._d, self._probes = space.pairs, space.d, probes
        self._fields = sorted({j for _, j in space.pairs})
        jobs = len(space.actions)
        self._lists = max(1, jobs // _LIST_JOBS)
        width = space.d * len(self._fields)
        self._index = faiss.index_factory(width, f"IVF{self._lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
        self._index.cp.min_points_per_centroid = 1  # a small catalogue is no reason to warn on stderr
        self._index.train(self._keys(space.actions[:: max(1, jobs // (self._lists * _TRAINING_JOBS))]))
        for start in range(0, jobs, _ADDED_AT_ONCE):
            self._index.add(self._keys(space.actions[start : start + _ADDED_AT_ONCE]))

    def __len__(self) -> int:
        """Number of jobs."""
        return int(self._index.ntotal)

    def nearest(self, states: Tensor, n: int) -> Tensor:
        """Rows of n jobs near each applicant: float32 [B, Ds] -> int64 [B, n], nearest first.

        With n the whole catalogue these are all jobs; below, as many lists are looked through as n needs.
        """
        queries = self._queries(states)
        probes = max(self._probes, -(-n * self._lists // len(self)))
        found = self._search(queries, n, min(probes, self._lists))
        if (found < 0).any():  # short lists: those probed hold fewer than n
            found = self._search(queries, n, self._lists)
        return torch.from_numpy(found)

    def _search(self, queries: NDArray[np.float32], n: int, probes: int) -> NDArray[np.int64]:
        _, found = self._index.search(queries, n, params=faiss.SearchParametersIVF(nprobe=probes))
        return np.asarray(found, dtype=np.int64)

    def _keys(self, actions: Tensor) -> NDArray[np.float32]:
        """Jobs as the index keeps them, each paired field at length 1: [m, Da] -> [m, paired job fields x d]."""
        fields = torch.stack([actions[:, j : j + self._d] for j in self._fields], dim=1)
        return torch.nn.functional.normalize(fields, dim=2).flatten(1).numpy()

    def _queries(self, states: Tensor) -> NDArray[np.float32]:
        """For each job field the sum of the applicant's fields paired with it: [B, Ds] -> [B, as the keys]."""
        query = torch.zeros(len(states), len(self._fields), self._d)
        for i, j in self._pairs:
            query[:, self._fields.index(j)] += torch.nn.functional.normalize(states[:, i : i + self._d], dim=1)
        return query.flatten(1).numpy()


class Retriever:
    """The best k jobs among the n that the index finds nearest.

    Args:
        catalogue: the jobs under one checkpoint.
        index: the same jobs by cosine.
        n: jobs re-ranked for an applicant.

    Raises:
        InputError: catalogue and index are not of one size, or n is below 1 or above it.
    """

    def __init__(self, catalogue: Catalogue, index: JobIndex, n: int) -> None:
        if len(catalogue) != len(index):
            raise InputError(f"the catalogue has {len(catalogue)} jobs and the index {len(index)}: build both from one")
        if not 1 <= n <= len(catalogue):
            raise InputError(f"n is {n}: between 1 and the {len(catalogue)} jobs of the catalogue can be re-ranked")
        self.catalogue, self.index, self.n = catalogue, index, n

    def top_k(self, states: Tensor, k: int, excluded: Sequence[Tensor] | None = None) -> TopK:
        """As ``Catalogue.top_k``, of the n nearest jobs that are not excluded.

        Raises:
            InputError: as there, or k is above n.
        """
        out = self.catalogue.checked(states, k, excluded)
        if k > self.n:
            raise InputError(f"k is {k}, but only the {self.n} nearest jobs are re-ranked: raise n")
        # Fetched on top of n, so that what is excluded takes no place away.
        fetched = min(self.n + max((len(rows) for rows in out), default=0), len(self.catalogue))
        near = self.index.nearest(states, fetched)
        kept = [row[~torch.isin(row, gone)][: self.n].sort().values for row, gone in zip(near, out, strict=True)]
        return self.catalogue.rank(states, kept, k)


def measured_recall(retriever: Retriever, states: Tensor, k: int, excluded: Sequence[Tensor] | None = None) -> float:
    """Share of the network's exact best k that re-ranking the retrieved jobs keeps, over applicants [B, Ds]."""
    exact = retriever.catalogue.top_k(states, k, excluded).jobs
    found = retriever.top_k(states, k, excluded).jobs
    return float((found[:, :, None] == exact[:, None]).any(2).float().mean())
