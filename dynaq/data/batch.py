"""A batch of documents with their texts: what the last snapshot holds is taken from there, the rest is decoded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import bson
import numpy as np
from bson import Code, ObjectId
from numpy.typing import NDArray
from pymongo import CursorType
from pymongo.collection import Collection
from pymongo.cursor import Cursor, RawBatchCursor

from dynaq.artifacts import sources_digest
from dynaq.config import Versions
from dynaq.data.alike import Decoded, decode_batch
from dynaq.data.fields import as_text, projection, value_at, values_at
from dynaq.data.held import UNKNOWN, Held, version_of
from dynaq.data.manifest import Side
from dynaq.data.quarantine import Rejection

Document = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where one side of the market lies in MongoDB.

    Attributes:
        keys: the config keys of the two collections.
        held: what need not be read again, if it has not changed.
    """

    side: Side
    embeddings: Collection[Document]
    texts: Collection[Document]
    keys: tuple[str, str]
    id_field: str
    vector_fields: list[str]
    labels: dict[str, str]
    versions: Versions
    held: Held | None = None

    @cached_property
    def about(self) -> list[str]:
        """Fields of a vector document beside its vectors."""
        return [self.id_field, "encoder", "generated", *filter(None, [self.versions.vectors])]

    def find(self, query: Document, **options: Any) -> RawBatchCursor[Any]:
        """Whole vector documents, in raw batches; MongoDB sends the next one unasked, where it is no router."""
        router = self.embeddings.database.client.is_mongos
        kind = CursorType.NON_TAILABLE if router else CursorType.EXHAUST
        wanted = projection([*self.about, *self.vector_fields])
        return self.embeddings.find_raw_batches(query, wanted, cursor_type=kind, **options)

    def find_about(self, **options: Any) -> Cursor[Document]:
        """What is about each vector document."""
        return self.embeddings.find({}, projection(self.about), **options)

    @cached_property
    def salt(self) -> bytes:
        """Of the versions: what is read from elsewhere, or otherwise, has changed."""
        names = [self.embeddings.full_name, self.texts.full_name, self.id_field, self.vector_fields, self.labels]
        otherwise = json.dumps([names, self.versions.model_dump(), reading_code()])
        return hashlib.blake2b(otherwise.encode(), digest_size=32).digest()


@cache
def reading_code() -> str:
    """A digest of the code that reads documents: another version of it may read another thing in the same ones."""
    return sources_digest(Path(__file__).parent)


@dataclass(frozen=True)
class Batch:
    """n documents in the order of their ids.

    Attributes:
        ids: the ids as they are stored, None where there is none that can be used.
        encoders: the name of the encoder of each, ``unknown`` where a document does not say.
        generated: documents of a generated demo market.
        rows: float32 [n, fields * D], without meaning where the document is rejected.
        texts: label -> text of each, None where there is no text document.
        versions: uint64 [n, 2], of the vector and the text document of each.
        versioned: every document has a version.
        read: documents whose vectors were read, the others being held.
        rejected: index -> why the document cannot be used.
    """

    ids: list[Any]
    encoders: list[str]
    generated: list[bool]
    rows: NDArray[np.float32]
    texts: list[dict[str, str] | None]
    versions: NDArray[np.uint64]
    versioned: bool
    read: int
    rejected: dict[int, Rejection]


def make_batch(source: Source, dimension: int, found: bytes | list[Document]) -> Batch:
    """Decode vector documents, and read what belongs to them.

    Args:
        source: where they come from.
        dimension: the size D of a vector.
        found: the documents, as MongoDB sends them; of a source that holds some, only what is about them.
    """
    if isinstance(found, bytes):
        whole = decode_batch(found, source.vector_fields, dimension, source.embeddings.codec_options)
        read, vector_versions = len(whole.documents), _vector_versions(source, whole.documents)
    else:
        whole, vector_versions, read = _with_held(source, dimension, found)
    documents = whole.documents
    ids = values_at(documents, source.id_field)
    rejected: dict[int, Rejection] = {}
    for index, value in enumerate(ids):
        if reason := _id_problem(value):
            rejected[index] = Rejection(str(documents[index]["_id"]), source.id_field, reason)
            ids[index] = None
        elif index in whole.problems:
            rejected[index] = Rejection(str(value), *whole.problems[index])
    texts, text_versions = _texts(source, ids)
    return Batch(
        ids=ids,
        encoders=[str(document.get("encoder", "unknown")) for document in documents],
        generated=[document.get("generated") is True for document in documents],
        rows=whole.rows.reshape(len(documents), -1),
        texts=texts,
        versions=np.array([vector_versions, text_versions], dtype=np.uint64).T,
        versioned=UNKNOWN not in vector_versions and not (source.labels and _unversioned(texts, text_versions)),
        read=read,
        rejected=rejected,
    )


def _with_held(source: Source, dimension: int, found: list[Document]) -> tuple[Decoded, list[int], int]:
    """Documents that are held, and the others read; the versions of all, and how many were read."""
    assert source.held is not None
    versions = _vector_versions(source, found)
    held = source.held.unchanged(values_at(found, source.id_field), versions, 0)
    changed = [found[index]["_id"] for index in np.flatnonzero(held < 0)]
    query = source.find({"_id": {"$in": changed}}, batch_size=len(changed) + 1) if changed else ()
    read = decode_batch(b"".join(query), source.vector_fields, dimension, source.embeddings.codec_options)
    place_of = {_key(document): place for place, document in enumerate(read.documents)}
    places = [place_of.get(_key(document), -1) if row < 0 else -1 for document, row in zip(found, held, strict=True)]
    there = [index for index, row in enumerate(held) if row >= 0 or places[index] >= 0]  # the others are gone since
    unchanged = held[there] >= 0
    rows = np.empty((len(there), *read.rows.shape[1:]), dtype=np.float32)
    rows[unchanged] = source.held.vectors[held[there][unchanged]].reshape(-1, *read.rows.shape[1:])
    rows[~unchanged] = read.rows[[place for place in places if place >= 0]]
    documents = [found[index] if held[index] >= 0 else read.documents[places[index]] for index in there]
    problems = {at: read.problems[places[index]] for at, index in enumerate(there) if places[index] in read.problems}
    of_read = _vector_versions(source, read.documents)  # which may have changed since
    versions = [versions[index] if held[index] >= 0 else of_read[places[index]] for index in there]
    return Decoded(documents, rows, problems), versions, len(read.documents)


def _key(document: Document) -> bytes:
    return bson.encode({"": document["_id"]})  # an _id need not be hashable


def _id_problem(value: Any) -> str | None:
    if type(value) is str and value:  # as most are
        return None
    if value is None or value == "":
        return "missing id"
    if isinstance(value, bool | Code) or not isinstance(value, str | int | ObjectId):  # JavaScript is a str too
        return "bad type"
    return None


def _vector_versions(source: Source, documents: list[Document]) -> list[int]:
    if source.versions.vectors is None:
        return [UNKNOWN] * len(documents)
    about = zip(values_at(documents, "_id"), *(values_at(documents, name) for name in source.about), strict=True)
    return [version_of(values, source.salt) for values in about]


def _texts(source: Source, ids: list[Any]) -> tuple[list[dict[str, str] | None], list[int]]:
    """Label -> text for each id, None where the text document is missing; and the versions of these documents."""
    if not source.labels:
        return [{}] * len(ids), [UNKNOWN] * len(ids)
    wanted = [each for each in ids if each is not None]
    # An ObjectId is often referred to by its hexadecimal form.
    hexadecimal = [each for each in wanted if isinstance(each, str) and len(each) == 24]
    wanted += [ObjectId(each) for each in hexadecimal if ObjectId.is_valid(each)]
    found: dict[str, dict[str, str]] = {}
    versions: dict[str, int] = {}
    if source.held is not None and source.versions.texts is not None:
        about = _find_texts(source, wanted, [source.versions.texts])
        seen = {str(document["_id"]): _text_version(source, document) for document in about}
        rows = dict(zip(seen, source.held.unchanged(list(seen), list(seen.values()), 1).tolist(), strict=True))
        found = {key: source.held.texts[row] for key, row in rows.items() if row >= 0}
        versions = {key: seen[key] for key in found}
        wanted = [document["_id"] for document in about if str(document["_id"]) not in found]
    paths = list(source.labels.values())
    documents = _find_texts(source, wanted, [*paths, *filter(None, [source.versions.texts])])
    columns = [map(as_text, values_at(documents, path)) for path in paths]
    for document, *texts in zip(documents, *columns, strict=True):
        key = str(document["_id"])
        found[key] = {label: text for label, text in zip(source.labels, texts, strict=True) if text}
        versions[key] = _text_version(source, document)
    return [found.get(str(each)) for each in ids], [versions.get(str(each), UNKNOWN) for each in ids]


def _unversioned(texts: list[dict[str, str] | None], versions: list[int]) -> bool:
    return any(version == UNKNOWN and text is not None for version, text in zip(versions, texts, strict=True))


def _find_texts(source: Source, ids: list[Any], paths: list[str]) -> list[Document]:
    return list(source.texts.find({"_id": {"$in": ids}}, projection(paths), batch_size=len(ids) + 1)) if ids else []


def _text_version(source: Source, document: Document) -> int:
    if source.versions.texts is None:
        return UNKNOWN
    return version_of([document["_id"], value_at(document, source.versions.texts)], source.salt)
