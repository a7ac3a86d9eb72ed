"""A batch of documents with their texts: what the last snapshot holds is taken from there, the rest is decoded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import bson
import numpy as np
from bson import Code, ObjectId
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS
from numpy.typing import NDArray
from pymongo.collection import Collection
from pymongo.cursor import Cursor

from dynaq.config import Versions
from dynaq.data.fields import as_text, projection, value_at, values_at
from dynaq.data.held import UNKNOWN, Held, version_of
from dynaq.data.manifest import Side
from dynaq.data.quarantine import Rejection
from dynaq.data.raw_arrays import decode_documents
from dynaq.data.vectors import decode_vectors

Document = dict[str, Any]

_DECODED_AT_ONCE = 200  # documents whose bytes stay in a processor's cache until they are rows


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
    held: Held | None

    @cached_property
    def arrays(self) -> bool:
        """Whether vectors are arrays of numbers; the first document stands for all."""
        first = self.embeddings.find_one({}, projection(self.vector_fields)) or {}
        return any(isinstance(first.get(name), list) for name in self.vector_fields)

    @cached_property
    def about(self) -> list[str]:
        """Fields of a vector document beside its vectors."""
        return [self.id_field, "encoder", "generated", *filter(None, [self.versions.vectors])]

    def find(self, query: Document, whole: bool, **options: Any) -> Cursor[Any]:
        """Vector documents, whole (undecoded if they hold arrays) or only what is about them."""
        undecoded = self.embeddings.with_options(codec_options=DEFAULT_RAW_BSON_OPTIONS)
        collection: Collection[Any] = undecoded if whole and self.arrays else self.embeddings
        return collection.find(query, projection([*self.about, *(self.vector_fields if whole else [])]), **options)

    @cached_property
    def salt(self) -> bytes:
        """Of the versions: what is read from elsewhere, or otherwise, has changed."""
        names = [self.embeddings.full_name, self.texts.full_name, self.id_field, self.vector_fields, self.labels]
        return hashlib.blake2b(json.dumps([names, self.versions.model_dump()]).encode(), digest_size=32).digest()


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
        read: documents whose vectors were read, the others being held.
        rejected: index -> why the document cannot be used.
    """

    ids: list[Any]
    encoders: list[str]
    generated: list[bool]
    rows: NDArray[np.float32]
    texts: list[dict[str, str] | None]
    versions: NDArray[np.uint64]
    read: int
    rejected: dict[int, Rejection]


def make_batch(source: Source, dimension: int, found: list[Any]) -> Batch:
    """Decode vector documents, and read what belongs to them.

    Args:
        source: where they come from.
        dimension: the size D of a vector.
        found: the documents, whole; of a source that holds some, only what is about them.
    """
    documents, held_rows = _complete(source, found)
    rows = np.empty((len(documents), len(source.vector_fields) * dimension), dtype=np.float32)
    if source.held is not None:
        rows[held_rows >= 0] = source.held.vectors[held_rows[held_rows >= 0]]
    read = np.flatnonzero(held_rows < 0).tolist()
    shape = (len(documents), len(source.vector_fields), dimension)
    problems = _decode(source, documents, read, rows.reshape(shape))
    ids = values_at(documents, source.id_field)
    rejected: dict[int, Rejection] = {}
    for index, value in enumerate(ids):
        if reason := _id_problem(value):
            rejected[index] = Rejection(str(documents[index]["_id"]), source.id_field, reason)
            ids[index] = None
        elif index in problems:
            rejected[index] = Rejection(str(value), *problems[index])
    texts, text_versions = _texts(source, ids)
    return Batch(
        ids=ids,
        encoders=[str(document.get("encoder", "unknown")) for document in documents],
        generated=[document.get("generated") is True for document in documents],
        rows=rows,
        texts=texts,
        versions=np.array([_vector_versions(source, documents), text_versions], dtype=np.uint64).T,
        read=len(read),
        rejected=rejected,
    )


def _complete(source: Source, found: list[Any]) -> tuple[list[Any], NDArray[np.intp]]:
    """Documents, whole unless they are held, and the rows of those that are, -1 for all others."""
    if source.held is None:
        return found, np.full(len(found), -1)
    rows = source.held.unchanged(values_at(found, source.id_field), _vector_versions(source, found), 0)
    changed = [found[index]["_id"] for index in np.flatnonzero(rows < 0)]
    query = source.find({"_id": {"$in": changed}}, whole=True, batch_size=len(changed) + 1) if changed else ()
    whole = {_key(document): document for document in query}
    documents = [found[index] if row >= 0 else whole.get(_key(found[index])) for index, row in enumerate(rows)]
    there = [index for index, document in enumerate(documents) if document is not None]  # the others are gone since
    return [documents[index] for index in there], rows[there]


def _key(document: Any) -> bytes:
    return bson.encode({"": document["_id"]})  # an _id need not be hashable


def _decode(
    source: Source, documents: list[Any], at: list[int], rows: NDArray[np.float32]
) -> dict[int, tuple[str, str]]:
    """Decode the documents at some places, and their vectors into rows [n, fields, D]; place -> field and reason."""
    problems: dict[int, tuple[str, str]] = {}
    for start in range(0, len(at), _DECODED_AT_ONCE):
        places = at[start : start + _DECODED_AT_ONCE]
        if source.arrays:
            raw = [bytes(documents[place].raw) for place in places]
            decoded = decode_documents(raw, source.vector_fields, source.embeddings.codec_options)
            for place, document in zip(places, decoded, strict=True):
                documents[place] = document
        here = [documents[place] for place in places]
        for column, name in enumerate(source.vector_fields):
            rows[places, column], odd = decode_vectors(values_at(here, name), rows.shape[2])
            for index, reason in odd:
                problems.setdefault(places[index], (name, reason))
    return problems


def _id_problem(value: Any) -> str | None:
    if value is None or value == "":
        return "missing id"
    if isinstance(value, bool | Code) or not isinstance(value, str | int | ObjectId):  # JavaScript is a str too
        return "bad type"
    return None


def _vector_versions(source: Source, documents: list[Document]) -> list[int]:
    if source.versions.vectors is None:
        return [UNKNOWN] * len(documents)
    return [
        version_of([document["_id"], *(value_at(document, name) for name in source.about)], source.salt)
        for document in documents
    ]


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


def _find_texts(source: Source, ids: list[Any], paths: list[str]) -> list[Document]:
    return list(source.texts.find({"_id": {"$in": ids}}, projection(paths), batch_size=len(ids) + 1)) if ids else []


def _text_version(source: Source, document: Document) -> int:
    if source.versions.texts is None:
        return UNKNOWN
    return version_of([document["_id"], value_at(document, source.versions.texts)], source.salt)
