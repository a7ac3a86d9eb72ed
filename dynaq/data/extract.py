"""Extraction: embedding collections and texts out of MongoDB into a snapshot, in memory for a batch and all ids.

A document that cannot be used is counted, listed and left out; it stops the run only beyond a share. So is a
text document that no embedding document refers to: it counts as one more document of the embedding collection.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from pymongo.database import Database
from tqdm import tqdm

from dynaq.artifacts import staged
from dynaq.config import ExtractConfig, MongoConfig
from dynaq.data.batch import Batch, Source
from dynaq.data.connection import mongo_errors
from dynaq.data.held import held_by, whole_latest
from dynaq.data.manifest import (
    MANIFEST,
    FileRecord,
    HashedFile,
    Manifest,
    Side,
    configured,
    ids_file,
    texts_file,
    vectors_file,
    versions_file,
)
from dynaq.data.quarantine import QUARANTINE, Quarantine, Rejection, merge, without_vectors
from dynaq.data.reading import read_batches
from dynaq.data.snapshot import Snapshot, next_created
from dynaq.data.staging import publish_snapshot, renew
from dynaq.data.unchanged import versions_digest
from dynaq.errors import ArtifactError, InputError

Document = dict[str, Any]

log = logging.getLogger(__name__)

_to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would build one for each text


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
    read: int = 0
    versioned: bool = True
    ids: dict[str, None] = field(default_factory=dict)
    referred: set[Any] = field(default_factory=set)
    encoders: Counter[str] = field(default_factory=Counter)
    generated: int = 0
    without_text: int = 0
    files: dict[str, FileRecord] = field(default_factory=dict)


def extract_snapshot(
    database: Database[Document], mongo: MongoConfig, extract: ExtractConfig, out_root: Path, fresh: bool = False
) -> Path:
    """Write a snapshot of the configured fields under out_root and return its directory.

    The directory is named by the digest of its content: the same content gives the same directory, whatever
    the order of insertion and however vectors are stored. It appears whole or not at all. Where nothing has changed
    since the latest one, that one is renewed, and nothing is read but versions.

    Args:
        database: where the documents are.
        mongo: what collections and fields are called.
        extract: which fields.
        out_root: where snapshots are kept.
        fresh: read all documents, those too that have not changed since the latest snapshot there.

    Raises:
        InputError: a collection is empty or missing, or too many of its documents cannot be used.
        ArtifactError: the snapshot cannot be written.
        TransientError: MongoDB did not answer.
    """
    try:
        with mongo_errors(), staged(out_root) as staging:
            fields: dict[Side, list[str]] = {"applicants": extract.applicant_fields, "jobs": extract.job_fields}
            columns = {side: len(names) * extract.dimension for side, names in fields.items()}
            latest = None if fresh else whole_latest(out_root)
            held = held_by(latest, columns) if latest else {}
            sources = [replace(each, held=held.get(each.side)) for each in _sources(database, mongo, extract)]
            for source in sources:
                _require_documents(source)
            versions = versions_digest(sources, mongo, extract)
            if latest and len(held) == len(sources) and versions is not None and versions == latest.manifest.versions:
                _renew_unchanged(latest, sources, staging, out_root)
                return out_root / latest.path.name
            tallies = {}
            for source in sources:
                tally = tallies[source.side] = _extract_side(source, extract, staging)
                tally.quarantine.judge(tally.documents, extract, kept_under=out_root)
                _warn_of_absent_fields(source, tally.labelled)
            merge([tally.quarantine for tally in tallies.values()], staging / QUARANTINE)
            manifest = _manifest(database.name, tallies, mongo, extract, next_created(out_root))
            if all(tally.versioned for tally in tallies.values()):
                manifest = manifest.model_copy(update={"versions": versions})
            _write_manifest(manifest, staging)
            final = out_root / manifest.digest[:16]
            publish_snapshot(staging, final, out_root.parent, latest)
            return final
    except OSError as error:
        raise ArtifactError(f"cannot write a snapshot under {out_root}: {error}") from None


def _renew_unchanged(latest: Snapshot, sources: list[Source], staging: Path, out_root: Path) -> None:
    """Make the latest snapshot that of this extraction; what was said of its documents is said again."""
    for source in sources:
        rows, _ = latest.manifest.shape(source.side)
        log.info("%s: %d of %d have not changed and were not read", source.side, rows, rows)
        _warn_of_absent_fields(source, latest.manifest.labelled[source.side])
    _write_manifest(latest.manifest.model_copy(update={"created": next_created(out_root)}), staging)
    renew(staging, latest)


def _write_manifest(manifest: Manifest, staging: Path) -> None:
    (staging / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")


def _sources(database: Database[Document], mongo: MongoConfig, extract: ExtractConfig) -> tuple[Source, Source]:
    names = mongo.collections
    return (
        Source(
            side="applicants",
            embeddings=database[names.applicant_embeddings],
            texts=database[names.applicants],
            keys=("mongo.collections.applicant_embeddings", "mongo.collections.applicants"),
            id_field=mongo.applicant_id,
            vector_fields=[mongo.applicant_vectors[name] for name in extract.applicant_fields],
            labels=extract.applicant_text,
            versions=mongo.versions,
        ),
        Source(
            side="jobs",
            embeddings=database[names.job_embeddings],
            texts=database[names.jobs],
            keys=("mongo.collections.job_embeddings", "mongo.collections.jobs"),
            id_field=mongo.job_id,
            vector_fields=[mongo.job_vectors[name] for name in extract.job_fields],
            labels=extract.job_text,
            versions=mongo.versions,
        ),
    )


def _require_documents(source: Source) -> None:
    needed = [(source.embeddings, source.keys[0])]
    if source.labels:
        needed.append((source.texts, source.keys[1]))
    for collection, key in needed:
        if collection.find_one({}, {"_id": 1}) is None:
            raise InputError(
                f"collection {collection.name} of database {collection.database.name} is empty or missing:"
                f" run the ingest flow or correct {key}"
            )


def _extract_side(source: Source, extract: ExtractConfig, staging: Path) -> _Tally:
    """Stream one side into its files, a batch at a time."""
    tally = _Tally(Quarantine(staging, source.embeddings.name), Counter(dict.fromkeys(source.labels, 0)))
    with (
        HashedFile(staging / vectors_file(source.side)) as vectors,
        HashedFile(staging / texts_file(source.side)) as lines,
        (staging / versions_file(source.side)).open("wb") as versions,
        closing(read_batches(source, extract)) as batches,
        tqdm(
            desc=source.embeddings.name,
            total=source.embeddings.estimated_document_count(),
            unit=" documents",
            file=sys.stderr,
            disable=None,  # silent where stderr is no terminal
        ) as progress,
    ):
        for batch in batches:
            kept = _claim(batch, tally.ids, source.id_field)
            texts = [batch.texts[index] for index in kept]
            rows = batch.rows if len(kept) == len(batch.ids) else batch.rows[kept]
            vectors.write(rows.astype("<f4", copy=False).data)
            lines.write("".join(_to_json(text) + "\n" if text else "{}\n" for text in texts).encode())
            tally.quarantine.add([rejection for _, rejection in sorted(batch.rejected.items())])
            versions.write(batch.versions[kept].astype("<u8").tobytes())
            tally.documents += len(batch.ids)
            tally.read += batch.read
            tally.versioned &= batch.versioned
            tally.encoders.update(batch.encoders[index] for index in kept)
            tally.generated += sum(batch.generated[index] for index in kept)
            tally.without_text += texts.count(None)
            tally.labelled.update(chain.from_iterable(text for text in texts if text))
            tally.referred.update(batch.ids)
            progress.update(len(batch.ids))
    if source.held is not None:
        unchanged = tally.documents - tally.read
        log.info("%s: %d of %d have not changed and were not read", source.side, unchanged, tally.documents)
    if source.labels:
        for rejections in without_vectors(source.texts, source.id_field, tally.referred, 10 * extract.batch_size):
            tally.quarantine.add(rejections)
            tally.documents += len(rejections)
    (staging / ids_file(source.side)).write_text(json.dumps(list(tally.ids)), encoding="utf-8")
    tally.files = {
        vectors_file(source.side): vectors.record,
        texts_file(source.side): lines.record,
        ids_file(source.side): FileRecord.of(staging / ids_file(source.side)),
    }
    return tally


def _claim(batch: Batch, seen: dict[str, None], id_field: str) -> list[int]:
    """Indices of usable documents, whose ids join ``seen``: of several with one id the first usable one stays."""
    kept = []
    for index, label in enumerate(map(str, batch.ids)):
        if index in batch.rejected:
            continue
        if label in seen:
            batch.rejected[index] = Rejection(label, id_field, "duplicate id")
        else:
            seen[label] = None
            kept.append(index)
    return kept


def _warn_of_absent_fields(source: Source, labelled: Mapping[str, int]) -> None:
    one = source.side.removesuffix("s")
    for label, path in source.labels.items():
        if not labelled[label]:
            log.warning("no %s has the field %s that extract.%s_text.%s names", one, path, one, label)


def _manifest(
    database: str, tallies: dict[Side, _Tally], mongo: MongoConfig, extract: ExtractConfig, created: str
) -> Manifest:
    files = tallies["applicants"].files | tallies["jobs"].files
    manifest = Manifest(
        digest="",
        created=created,
        database=database,
        **configured(mongo, extract),
        jobs=len(tallies["jobs"].ids),
        applicants=len(tallies["applicants"].ids),
        encoders={side: dict(sorted(tally.encoders.items())) for side, tally in tallies.items()},
        generated={side: tally.generated for side, tally in tallies.items()},
        quarantined={tally.quarantine.collection: tally.quarantine.by_reason() for tally in tallies.values()},
        without_text={side: tally.without_text for side, tally in tallies.items()},
        labelled={side: dict(tally.labelled) for side, tally in tallies.items()},
        files=dict(sorted(files.items())),
    )
    return manifest.model_copy(update={"digest": manifest.content_digest()})
