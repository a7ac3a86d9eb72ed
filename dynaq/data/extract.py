"""Extraction: embedding collections and texts out of MongoDB into a snapshot, in memory for a batch and all ids.

A document that cannot be used is counted, listed and left out; it stops the run only beyond a share. So is a
text document that no embedding document refers to: it counts as one more document of the embedding collection.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bson import Code, ObjectId
from numpy.typing import NDArray
from pymongo.collection import Collection
from pymongo.database import Database
from tqdm import tqdm

from dynaq.artifacts import staged
from dynaq.config import ExtractConfig, MongoConfig
from dynaq.data.connection import mongo_errors
from dynaq.data.fields import as_text, projection, value_at
from dynaq.data.manifest import (
    MANIFEST,
    SIDES,
    FileRecord,
    Manifest,
    Side,
    configured,
    ids_file,
    texts_file,
    vectors_file,
)
from dynaq.data.quarantine import QUARANTINE, Quarantine, Rejection, merge, without_vectors
from dynaq.data.snapshot import next_created
from dynaq.data.staging import publish_snapshot
from dynaq.data.vectors import decode_vectors
from dynaq.errors import ArtifactError, InputError

Document = dict[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Source:
    """Where one side of the market lies in MongoDB; ``keys`` are the config keys of the two collections."""

    side: Side
    embeddings: Collection[Document]
    texts: Collection[Document]
    keys: tuple[str, str]
    id_field: str
    vector_fields: list[str]
    labels: dict[str, str]


@dataclass
class _Tally:
    """What was found on one side so far.

    Attributes:
        labelled: label -> rows that have a text under it.
        ids: the keys are the ids of usable documents, in row order.
        referred: the ids of all embedding documents as they are stored, unusable ones among them.
    """

    quarantine: Quarantine
    labelled: Counter[str]
    documents: int = 0
    ids: dict[str, None] = field(default_factory=dict)
    referred: set[Any] = field(default_factory=set)
    encoders: Counter[str] = field(default_factory=Counter)
    generated: int = 0
    without_text: int = 0


def extract_snapshot(database: Database[Document], mongo: MongoConfig, extract: ExtractConfig, out_root: Path) -> Path:
    """Write a snapshot of the configured fields under out_root and return its directory.

    The directory is named by the digest of its content: the same content gives the same directory, whatever
    the order of insertion and however vectors are stored. It appears whole or not at all.

    Raises:
        InputError: a collection is empty or missing, or too many of its documents cannot be used.
        ArtifactError: the snapshot cannot be written.
        TransientError: MongoDB did not answer.
    """
    try:
        with mongo_errors(), staged(out_root) as staging:
            sources = _sources(database, mongo, extract)
            for source in sources:
                _require_documents(source)
            tallies = {}
            for source in sources:
                tally = tallies[source.side] = _extract_side(source, extract, staging)
                tally.quarantine.judge(tally.documents, extract, kept_under=out_root)
                _warn_of_absent_fields(source, tally)
            merge([tally.quarantine for tally in tallies.values()], staging / QUARANTINE)
            manifest = _manifest(database.name, tallies, mongo, extract, staging)
            (staging / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
            final = out_root / manifest.digest[:16]
            publish_snapshot(staging, final, out_root.parent)
            return final
    except OSError as error:
        raise ArtifactError(f"cannot write a snapshot under {out_root}: {error}") from None


def _sources(database: Database[Document], mongo: MongoConfig, extract: ExtractConfig) -> tuple[_Source, _Source]:
    names = mongo.collections
    return (
        _Source(
            side="applicants",
            embeddings=database[names.applicant_embeddings],
            texts=database[names.applicants],
            keys=("mongo.collections.applicant_embeddings", "mongo.collections.applicants"),
            id_field=mongo.applicant_id,
            vector_fields=[mongo.applicant_vectors[name] for name in extract.applicant_fields],
            labels=extract.applicant_text,
        ),
        _Source(
            side="jobs",
            embeddings=database[names.job_embeddings],
            texts=database[names.jobs],
            keys=("mongo.collections.job_embeddings", "mongo.collections.jobs"),
            id_field=mongo.job_id,
            vector_fields=[mongo.job_vectors[name] for name in extract.job_fields],
            labels=extract.job_text,
        ),
    )


def _require_documents(source: _Source) -> None:
    needed = [(source.embeddings, source.keys[0])]
    if source.labels:
        needed.append((source.texts, source.keys[1]))
    for collection, key in needed:
        if collection.find_one({}, {"_id": 1}) is None:
            raise InputError(
                f"collection {collection.name} of database {collection.database.name} is empty or missing:"
                f" run the ingest flow or correct {key}"
            )


def _extract_side(source: _Source, extract: ExtractConfig, staging: Path) -> _Tally:
    """Stream one side into its files, a batch at a time."""
    tally = _Tally(Quarantine(staging, source.embeddings.name), Counter(dict.fromkeys(source.labels, 0)))
    with (
        (staging / vectors_file(source.side)).open("wb") as vectors,
        (staging / texts_file(source.side)).open("w", encoding="utf-8") as lines,
        tqdm(
            desc=source.embeddings.name,
            total=source.embeddings.estimated_document_count(),
            unit=" documents",
            file=sys.stderr,
            disable=None,  # silent where stderr is no terminal
        ) as progress,
    ):
        for batch in _batches(source, extract.batch_size):
            rows, documents, rejections = _usable(source, batch, extract.dimension, tally.ids)
            texts = _texts(source, documents)
            vectors.write(rows.astype("<f4", copy=False).tobytes())
            lines.writelines(json.dumps(text or {}, ensure_ascii=False) + "\n" for text in texts)
            tally.quarantine.add(rejections)
            tally.documents += len(batch)
            tally.encoders.update(str(document.get("encoder", "unknown")) for document in documents)
            tally.generated += sum(document.get("generated") is True for document in documents)
            tally.without_text += texts.count(None)
            tally.labelled.update(label for text in texts for label in text or {})
            ids = (value_at(document, source.id_field) for document in batch)
            tally.referred.update(each for each in ids if _id_problem(each) is None)
            progress.update(len(batch))
    if source.labels:
        for rejections in without_vectors(source.texts, source.id_field, tally.referred, extract.batch_size):
            tally.quarantine.add(rejections)
            tally.documents += len(rejections)
    (staging / ids_file(source.side)).write_text(json.dumps(list(tally.ids)), encoding="utf-8")
    return tally


def _warn_of_absent_fields(source: _Source, tally: _Tally) -> None:
    one = source.side.removesuffix("s")
    for label, path in source.labels.items():
        if not tally.labelled[label]:
            log.warning("no %s has the field %s that extract.%s_text.%s names", one, path, one, label)


def _batches(source: _Source, size: int) -> Iterator[list[Document]]:
    """Embedding documents by rising id, so that the order of insertion leaves no trace."""
    wanted = projection([source.id_field, *source.vector_fields, "encoder", "generated"])
    order = [(source.id_field, 1), ("_id", 1)]
    with source.embeddings.find({}, wanted, sort=order, allow_disk_use=True, batch_size=size) as cursor:
        batch: list[Document] = []
        for document in cursor:
            batch.append(document)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


def _usable(
    source: _Source, batch: list[Document], dimension: int, seen: dict[str, None]
) -> tuple[NDArray[np.float32], list[Document], list[Rejection]]:
    """Rows [n_ok, fields * D] with their documents, whose ids join ``seen``, and what was rejected.

    Ids are claimed last: of several documents with one id the first usable one stays.
    """
    rejections: list[Rejection] = []
    documents: list[Document] = []
    for document in batch:
        if reason := _id_problem(value_at(document, source.id_field)):
            rejections.append(Rejection(str(document["_id"]), source.id_field, reason))
        else:
            documents.append(document)
    columns: list[NDArray[np.float32]] = []
    for name in source.vector_fields:
        rows, problems = decode_vectors([value_at(document, name) for document in documents], dimension)
        if problems:
            rejections += [Rejection(_id(source, documents[index]), name, why) for index, why in problems]
            kept = np.delete(np.arange(len(documents)), [index for index, _ in problems])
            documents = [documents[index] for index in kept]
            columns = [column[kept] for column in columns]
        columns.append(rows)
    unique = []
    for index, document in enumerate(documents):
        if (label := _id(source, document)) in seen:
            rejections.append(Rejection(label, source.id_field, "duplicate id"))
        else:
            seen[label] = None
            unique.append(index)
    return np.concatenate(columns, axis=1)[unique], [documents[index] for index in unique], rejections


def _id(source: _Source, document: Document) -> str:
    return str(value_at(document, source.id_field))


def _id_problem(value: Any) -> str | None:
    if value is None or value == "":
        return "missing id"
    if isinstance(value, bool | Code) or not isinstance(value, str | int | ObjectId):  # JavaScript is a str too
        return "bad type"
    return None


def _texts(source: _Source, documents: list[Document]) -> list[dict[str, str] | None]:
    """Label -> text of each document, where there is one; None where the text document is missing."""
    if not source.labels:
        return [{}] * len(documents)
    ids = [value_at(document, source.id_field) for document in documents]
    # An ObjectId is often referred to by its hexadecimal form.
    ids += [ObjectId(each) for each in ids if isinstance(each, str) and ObjectId.is_valid(each)]
    cursor = source.texts.find({"_id": {"$in": ids}}, projection(source.labels.values()))
    found = {str(text["_id"]): text for text in cursor}
    texts: list[dict[str, str] | None] = []
    for document in documents:
        text = found.get(_id(source, document))
        values = {label: as_text(value_at(text, path)) for label, path in source.labels.items()}
        texts.append(None if text is None else {label: value for label, value in values.items() if value})
    return texts


def _manifest(
    database: str, tallies: dict[Side, _Tally], mongo: MongoConfig, extract: ExtractConfig, staging: Path
) -> Manifest:
    names = sorted(name(side) for side in SIDES for name in (vectors_file, ids_file, texts_file))
    manifest = Manifest(
        digest="",
        created=next_created(staging.parent),
        database=database,
        **configured(mongo, extract),
        jobs=len(tallies["jobs"].ids),
        applicants=len(tallies["applicants"].ids),
        encoders={side: dict(sorted(tally.encoders.items())) for side, tally in tallies.items()},
        generated={side: tally.generated for side, tally in tallies.items()},
        quarantined={tally.quarantine.collection: tally.quarantine.by_reason() for tally in tallies.values()},
        without_text={side: tally.without_text for side, tally in tallies.items()},
        labelled={side: dict(tally.labelled) for side, tally in tallies.items()},
        files={name: FileRecord.of(staging / name) for name in names},
    )
    return manifest.model_copy(update={"digest": manifest.content_digest()})
