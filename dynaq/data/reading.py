"""Embedding documents with their texts, in the order of their ids, read by threads ahead of whoever uses them.

Threads are enough: what waits for the network, copies vectors, hashes and writes holds no interpreter lock.
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

import numpy as np
from bson import Code, MinKey, ObjectId
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS
from numpy.typing import NDArray
from pymongo.collection import Collection

from dynaq.config import ExtractConfig
from dynaq.data.fields import as_text, projection, values_at
from dynaq.data.manifest import Side
from dynaq.data.quarantine import Rejection
from dynaq.data.raw_arrays import decode_documents
from dynaq.data.vectors import decode_vectors

Document = dict[str, Any]
T = TypeVar("T")

log = logging.getLogger(__name__)

_DECODED_AT_ONCE = 200  # documents whose bytes stay in a processor's cache until they are rows
_BATCHES_PER_RANGE = 2
_SAMPLES_PER_RANGE = 20


@dataclass(frozen=True)
class Source:
    """Where one side of the market lies in MongoDB; ``keys`` are the config keys of the two collections."""

    side: Side
    embeddings: Collection[Document]
    texts: Collection[Document]
    keys: tuple[str, str]
    id_field: str
    vector_fields: list[str]
    labels: dict[str, str]


@dataclass(frozen=True)
class _Plan:
    """How the embedding documents of a source are read.

    Attributes:
        index: name of the index that has their order, None where MongoDB has to sort them.
        order: the keys of that order.
        arrays: whether vectors are arrays of numbers; the first document stands for all.
    """

    index: str | None
    order: list[tuple[str, int]]
    arrays: bool


@dataclass(frozen=True)
class Batch:
    """n documents in the order of their ids.

    Attributes:
        ids: the ids as they are stored, None where there is none that can be used.
        encoders: the name of the encoder of each, ``unknown`` where a document does not say.
        generated: documents of a generated demo market.
        rows: float32 [n, fields, D], without meaning where the document is rejected.
        texts: label -> text of each, None where there is no text document.
        rejected: index -> why the document cannot be used.
    """

    ids: list[Any]
    encoders: list[str]
    generated: list[bool]
    rows: NDArray[np.float32]
    texts: list[dict[str, str] | None]
    rejected: dict[int, Rejection]


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
    if plan.index is None or ranges < 2 or extract.readers == 1:
        stream = _stream(source, extract, plan)
        with closing(_ahead(repeat(partial(next, stream, None)), 1)) as batches:
            yield from takewhile(lambda batch: batch is not None, batches)
    else:
        cuts = [None, *_cuts(source, ranges), None]
        calls: Iterator[Callable[[], list[Batch]]]
        calls = (partial(list, _stream(source, extract, plan, *bounds)) for bounds in pairwise(cuts))
        with closing(_ahead(calls, extract.readers)) as batches:
            yield from chain.from_iterable(batches)


def _plan(source: Source) -> _Plan:
    """See which index there is, if any: one entry for each document, and none but in the order of read_batches."""
    first = source.embeddings.find_one({}, projection(source.vector_fields)) or {}
    arrays = any(isinstance(first.get(name), list) for name in source.vector_fields)
    order = [(source.id_field, 1), ("_id", 1)]
    for name, index in source.embeddings.index_information().items():
        ordered = index["key"] == order or (index["key"] == order[:1] and (index.get("unique") or name == "_id_"))
        if not ordered or any(map(index.get, ("sparse", "partialFilterExpression", "collation", "hidden"))):
            continue
        entries = source.embeddings.find({}, {source.id_field: 1}).hint(name).limit(1)
        if "'isMultiKey': True" not in str(entries.explain()):  # ids that are lists have several entries each
            return _Plan(name, order[: len(index["key"])], arrays)
    return _Plan(None, order, arrays)


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
    return [after for before, after in pairwise([None, *ids]) if before != after and not _id_problem(after)]


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
    raw = source.embeddings.with_options(codec_options=DEFAULT_RAW_BSON_OPTIONS)
    collection: Collection[Any] = raw if plan.arrays else source.embeddings
    with collection.find(
        {},
        projection([source.id_field, *source.vector_fields, "encoder", "generated"]),
        sort=plan.order,
        hint=plan.index,
        allow_disk_use=True,
        batch_size=extract.batch_size,
        **bounds,
    ) as documents:
        while batch := list(islice(documents, extract.batch_size)):
            yield _batch(source, extract.dimension, plan, batch)


def _batch(source: Source, dimension: int, plan: _Plan, found: list[Any]) -> Batch:
    batch = Batch([], [], [], np.empty((len(found), len(source.vector_fields), dimension), dtype=np.float32), [], {})
    for start in range(0, len(found), _DECODED_AT_ONCE):
        documents = found[start : start + _DECODED_AT_ONCE]
        if plan.arrays:
            raw = [bytes(each.raw) for each in documents]
            documents = decode_documents(raw, source.vector_fields, source.embeddings.codec_options)
        ids = values_at(documents, source.id_field)
        for index, value in enumerate(ids):
            if reason := _id_problem(value):
                batch.rejected[start + index] = Rejection(str(documents[index]["_id"]), source.id_field, reason)
                ids[index] = None
        for place, name in enumerate(source.vector_fields):
            rows, problems = decode_vectors(values_at(documents, name), dimension)
            batch.rows[start : start + len(rows), place] = rows
            for index, reason in problems:
                batch.rejected.setdefault(start + index, Rejection(str(ids[index]), name, reason))
        batch.ids.extend(ids)
        batch.encoders.extend(str(document.get("encoder", "unknown")) for document in documents)
        batch.generated.extend(document.get("generated") is True for document in documents)
    batch.texts.extend(_texts(source, batch.ids))
    return batch


def _id_problem(value: Any) -> str | None:
    if value is None or value == "":
        return "missing id"
    if isinstance(value, bool | Code) or not isinstance(value, str | int | ObjectId):  # JavaScript is a str too
        return "bad type"
    return None


def _texts(source: Source, ids: list[Any]) -> list[dict[str, str] | None]:
    """Label -> text for each id, where there is one; None where the text document is missing."""
    if not source.labels:
        return [{}] * len(ids)
    wanted = [each for each in ids if each is not None]
    # An ObjectId is often referred to by its hexadecimal form.
    texts = [each for each in wanted if isinstance(each, str) and len(each) == 24]
    wanted += [ObjectId(each) for each in texts if ObjectId.is_valid(each)]
    query = source.texts.find({"_id": {"$in": wanted}}, projection(source.labels.values()), batch_size=len(wanted) + 1)
    documents = list(query)
    columns = [map(as_text, values_at(documents, path)) for path in source.labels.values()]
    found = {
        str(document["_id"]): {label: text for label, text in zip(source.labels, texts, strict=True) if text}
        for document, *texts in zip(documents, *columns, strict=True)
    }
    return [found.get(str(each)) for each in ids]
