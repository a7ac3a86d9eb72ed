"""Text documents into vector documents: only what is new or changed is embedded, in groups that are kept.

A vector may depend in its last bits on the texts that share a batch with it. Groups are cut from the collection in the
order of ``_id``, and batches from a group: who embeds which range of groups changes no number.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from bson.binary import Binary
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from tqdm import tqdm

from dynaq.config import EmbeddingConfig
from dynaq.data.connection import durable, mongo_errors
from dynaq.data.fields import as_text, projection, value_at
from dynaq.data.vectors import encode_vector
from dynaq.errors import InputError
from dynaq.protocols import Encoder

Document = dict[str, Any]


@dataclass(frozen=True)
class EmbedReport:
    """What became of the text documents; ``dataclasses.asdict`` makes it JSON.

    Attributes:
        read: text documents, = written + unchanged + without_text.
        written: documents whose vectors were computed, or removed because their text vanished.
        unchanged: documents whose vectors were up to date.
        without_text: documents with nothing to embed and no vectors of ours.
        texts: texts that went through the encoder; equal ones within a group count once.
    """

    read: int
    written: int
    unchanged: int
    without_text: int
    texts: int


class Range(NamedTuple):
    """Groups that follow one another: the ``_id`` of their first and of their last document."""

    first: Any
    last: Any


@dataclass(frozen=True)
class _Change:
    """What has to be written for one document; the keys are vector fields."""

    identifier: Any
    generated: bool
    texts: dict[str, str]  # to be embedded
    hashes: dict[str, str]  # to be recorded, those of unchanged texts among them


def embed_documents(
    database: Database[Document],
    texts_collection: str,
    vectors_collection: str,
    id_field: str,
    vectors: Mapping[str, str],
    encoder: Encoder,
    config: EmbeddingConfig,
    only: Range | None = None,
) -> EmbedReport:
    """Keep a vector document {id_field, vector fields, encoder, text_hashes, generated} for each document.

    A vector is up to date when its document names this encoder and ``text_hashes`` holds, under the vector
    field, the hash of the text. Groups of ``documents_per_commit`` documents are written as they are
    finished, so that an interrupted run goes on where it stopped. Vectors whose text vanished are removed.

    Args:
        database: where both collections lie.
        texts_collection: the documents with the text.
        vectors_collection: the documents with the vectors.
        id_field: its field with the ``_id`` of the text document; gets a unique index.
        vectors: text field -> vector field.
        encoder: text to vectors.
        config: sizes of batches and groups.
        only: one of `pending_ranges`, if not all documents.

    Raises:
        InputError: no document has any of the text fields, or vector documents share an id.
        TransientError: MongoDB did not answer.
    """
    source, target = database[texts_collection], durable(database[vectors_collection])
    read = written = without_text = texts = 0
    with mongo_errors():
        _make_unique(target, id_field)
        with _progress(source, "embedding", whole=only is None) as bar:
            for documents in _groups(source, vectors, config.documents_per_commit, only):
                changes, empty = _changes(documents, target, id_field, vectors, encoder.name)
                rows = _encode(changes, encoder, config.batch_size, bar)
                if changes:
                    writes = [_write(change, rows, id_field, vectors, encoder.name) for change in changes]
                    target.bulk_write(writes, ordered=False)
                read += len(documents)
                written += len(changes)
                without_text += empty
                texts += len(rows)
                bar.update(read - bar.n)
    _require_text(read - without_text, read, texts_collection, vectors)
    return EmbedReport(read, written, read - written - without_text, without_text, texts)


def pending_ranges(
    database: Database[Document],
    texts_collection: str,
    vectors_collection: str,
    id_field: str,
    vectors: Mapping[str, str],
    encoder_name: str,
    config: EmbeddingConfig,
) -> tuple[list[Range], int]:
    """Where `embed_documents` has something to write, and how many documents are up to date.

    In each range but the last some ``documents_per_commit`` documents have changed, in one group or in many.

    Raises:
        InputError: no document has any of the text fields, or vector documents share an id.
        TransientError: MongoDB did not answer.
    """
    source, target = database[texts_collection], database[vectors_collection]
    ranges: list[Range] = []
    waiting, read, written, without_text = config.documents_per_commit, 0, 0, 0
    with mongo_errors():
        _make_unique(target, id_field)
        with _progress(source, "comparing") as bar:
            for documents in _groups(source, vectors, config.documents_per_commit):
                changes, empty = _changes(documents, target, id_field, vectors, encoder_name)
                if changes:
                    if waiting >= config.documents_per_commit:
                        ranges.append(Range(documents[0]["_id"], documents[-1]["_id"]))
                        waiting = 0
                    ranges[-1] = ranges[-1]._replace(last=documents[-1]["_id"])
                    waiting += len(changes)
                read, written, without_text = read + len(documents), written + len(changes), without_text + empty
                bar.update(len(documents))
    _require_text(read - without_text, read, texts_collection, vectors)
    return ranges, read - written - without_text


def _require_text(found: int, read: int, texts_collection: str, vectors: Mapping[str, str]) -> None:
    if read and not found:
        raise InputError(
            f"none of the {read} documents of {texts_collection} has text in {', '.join(vectors)};"
            f" name the fields that hold it in mongo.job_vectors or mongo.applicant_vectors"
        )


def _make_unique(target: Collection[Document], id_field: str) -> None:
    try:
        target.create_index(id_field, unique=True)
    except DuplicateKeyError:
        raise InputError(
            f"several documents of {target.name} share one {id_field} or have none; remove these, then embed"
        ) from None


def _progress(source: Collection[Document], doing: str, whole: bool = True) -> tqdm[Any]:
    # A log file wants to see progress too, but not ten lines a second.
    return tqdm(
        total=source.estimated_document_count(),
        desc=f"{doing} {source.name}",
        unit=" documents",
        file=sys.stderr,
        disable=not whole,
        mininterval=0.1 if sys.stderr.isatty() else 5,
    )


def _groups(
    source: Collection[Document], vectors: Mapping[str, str], size: int, only: Range | None = None
) -> Iterator[list[Document]]:
    # Nothing can refer to another kind of _id; extraction lists such a document as one without vectors.
    usable: Document = {"_id": {"$type": ["string", "int", "long", "objectId"]}}
    if only:  # as an expression, which compares across types, as the order does
        bounds = [{"$gte": ["$_id", {"$literal": only.first}]}, {"$lte": ["$_id", {"$literal": only.last}]}]
        usable["$expr"] = {"$and": bounds}
    # One group at a time keeps the cursor in use: the server drops one that is idle for ten minutes.
    with source.find(usable, projection([*vectors, "generated"])).sort("_id").batch_size(size) as cursor:
        while documents := list(islice(cursor, size)):
            yield documents


def _changes(
    documents: Sequence[Document],
    target: Collection[Document],
    id_field: str,
    vectors: Mapping[str, str],
    encoder_name: str,
) -> tuple[list[_Change], int]:
    """What a group of text documents needs, and how many have no text and never had vectors from it."""
    stored = {
        record[id_field]: record
        for record in target.find(
            {id_field: {"$in": [document["_id"] for document in documents]}},
            {"_id": 0, id_field: 1, "encoder": 1, "text_hashes": 1},
        )
    }
    changes, empty = [], 0
    for document in documents:
        texts = {vectors[field]: text for field in vectors if (text := as_text(value_at(document, field)))}
        record = stored.get(document["_id"], {})
        recorded = record.get("text_hashes", {})
        if not texts and recorded.keys().isdisjoint(vectors.values()):
            empty += 1
            continue
        generated = bool(document.get("generated"))
        hashes = {field: hashlib.sha256(text.encode()).hexdigest() for field, text in texts.items()}
        if record.get("encoder") != encoder_name:
            changes.append(_Change(document["_id"], generated, texts, hashes))
        elif any(recorded.get(field) != hashes.get(field) for field in vectors.values()):
            stale = {field: text for field, text in texts.items() if recorded.get(field) != hashes[field]}
            unmapped = {field: recorded[field] for field in recorded.keys() - set(vectors.values())}
            changes.append(_Change(document["_id"], generated, stale, unmapped | hashes))
    return changes, empty


def _encode(changes: Sequence[_Change], encoder: Encoder, batch_size: int, bar: tqdm[Any]) -> dict[str, Binary]:
    """Text -> BSON vector, each distinct text once; by length, as a batch is padded to its longest text."""
    distinct = {text for change in changes for text in change.texts.values()}
    texts = sorted(distinct, key=lambda text: (len(text), text))
    encoded: dict[str, Binary] = {}
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        rows = encoder.encode(batch)
        if rows.shape != (len(batch), encoder.dimension):
            raise InputError(
                f"encoder {encoder.name} gave an array of shape {rows.shape} for {len(batch)} texts,"
                f" expected ({len(batch)}, {encoder.dimension})"
            )
        encoded |= zip(batch, map(encode_vector, rows), strict=True)
        done = len(changes) * len(encoded) // len(texts)
        bar.update(done - len(changes) * start // len(texts))
    return encoded


def _write(
    change: _Change, rows: Mapping[str, Binary], id_field: str, vectors: Mapping[str, str], encoder_name: str
) -> UpdateOne:
    update: Document = {
        # The same _id as the text keeps the order of the collection the same in every database.
        "$setOnInsert": {"_id": change.identifier},
        "$set": {
            **{field: rows[text] for field, text in change.texts.items()},
            "encoder": encoder_name,
            "text_hashes": change.hashes,
            "generated": change.generated,
        },
    }
    if gone := set(vectors.values()) - change.hashes.keys():
        update["$unset"] = dict.fromkeys(gone, "")
    return UpdateOne({id_field: change.identifier}, update, upsert=True)
