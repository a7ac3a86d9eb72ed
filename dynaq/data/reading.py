"""Embedding documents with their texts, in the order of their ids, read by threads ahead of whoever uses them.

Threads, so that waiting for MongoDB, hashing and writing overlap with decoding. What decodes holds the interpreter's
lock: with MongoDB on the same two cores one reader, ahead of whoever uses it, is faster than two or four.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, pairwise, repeat, takewhile
from typing import Any, TypeVar

from bson import MinKey, ObjectId
from pymongo.errors import OperationFailure

from dynaq.config import ExtractConfig
from dynaq.data.batch import Batch, Source, make_batch
from dynaq.data.fields import values_at

T = TypeVar("T")

log = logging.getLogger(__name__)

_BATCHES_PER_RANGE = 2
_SAMPLES_PER_RANGE = 20
_IS_A_VIEW = 166  # CommandNotSupportedOnView, of the server


@dataclass(frozen=True)
class _Plan:
    """How the embedding documents of a source are read.

    Attributes:
        index: name of the index that has their order, None where MongoDB has to sort them.
        order: the keys of that order.
    """

    index: str | None
    order: list[tuple[str, int]]


def read_batches(source: Source, extract: ExtractConfig) -> Generator[Batch]:
    """All embedding documents by rising id and, where ids are equal, rising ``_id``.

    Neither the order of insertion nor the number of readers leaves a trace. Without an index in this order MongoDB
    sorts the collection first, and there is one reader.
    """
    plan = _plan(source)
    ranges = source.embeddings.estimated_document_count() // (_BATCHES_PER_RANGE * extract.batch_size)
    if plan.index is None and ranges:
        log.warning(
            "%s is sorted and read by one reader, as no index has the order of its ids;"
            " db.%s.createIndex({%s: 1, _id: 1}) makes extraction faster",
            *(source.embeddings.name, source.embeddings.name, source.id_field),
        )
    cuts = [] if plan.index is None or ranges < 2 or extract.readers == 1 else _cuts(source, ranges)
    if not cuts:
        stream = _stream(source, extract, plan)
        with closing(_ahead(repeat(partial(next, stream, None)), 1)) as batches:
            yield from takewhile(lambda batch: batch is not None, batches)
    else:
        edges = [None, *cuts, None]
        calls: Iterator[Callable[[], list[Batch]]]
        calls = (partial(list, _stream(source, extract, plan, *bounds)) for bounds in pairwise(edges))
        with closing(_ahead(calls, extract.readers)) as batches:
            yield from chain.from_iterable(batches)


def _plan(source: Source) -> _Plan:
    """See which index there is, if any: one entry for each document, and none but in the order of read_batches."""
    order = [(source.id_field, 1), ("_id", 1)]
    try:
        indexes = source.embeddings.index_information()
    except OperationFailure as error:
        if error.code != _IS_A_VIEW:
            raise
        indexes = {}
    for name, index in indexes.items():
        ordered = index["key"] == order or (index["key"] == order[:1] and (index.get("unique") or name == "_id_"))
        if not ordered or any(map(index.get, ("sparse", "partialFilterExpression", "collation", "hidden"))):
            continue
        entries = source.embeddings.find({}, {source.id_field: 1}).hint(name).limit(1)
        if "'isMultiKey': True" not in str(entries.explain()):  # ids that are lists have several entries each
            return _Plan(name, order[: len(index["key"])])
    return _Plan(None, order)


def _cuts(source: Source, ranges: int) -> list[Any]:
    """Rising ids that cut the collection into about so many ranges of about equal size."""
    sampled = source.embeddings.aggregate(
        [
            {"$sample": {"size": ranges * _SAMPLES_PER_RANGE}},
            {"$project": {source.id_field: 1}},
            {"$sort": {source.id_field: 1}},
        ]
    )
    ids = values_at(list(sampled), source.id_field)[_SAMPLES_PER_RANGE::_SAMPLES_PER_RANGE]
    return [
        after for before, after in pairwise([None, *ids]) if before != after and isinstance(after, str | int | ObjectId)
    ]


def _ahead(calls: Iterator[Callable[[], T]], threads: int) -> Generator[T]:
    """The results of calls in their order, some of which are always under way."""
    pool = ThreadPoolExecutor(threads)
    try:
        pending = deque(pool.submit(call) for call in islice(calls, 2 * threads))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(call) for call in islice(calls, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def _stream(source: Source, extract: ExtractConfig, plan: _Plan, low: Any = None, high: Any = None) -> Iterator[Batch]:
    """The batches with ids from low to below high, None being no bound."""
    bounds = {
        name: dict(zip(dict(plan.order), (bound, MinKey()), strict=False))
        for name, bound in (("min", low), ("max", high))
        if bound is not None
    }
    options: dict[str, Any] = {
        "sort": plan.order,
        "hint": plan.index,
        "allow_disk_use": True,
        "batch_size": extract.batch_size,
    }
    if source.held is None:
        with source.find({}, **options, **bounds) as batches:
            for raw in batches:
                yield make_batch(source, extract.dimension, raw)
    else:
        with source.find_about(**options, **bounds) as documents:
            while found := list(islice(documents, extract.batch_size)):
                yield make_batch(source, extract.dimension, found)
