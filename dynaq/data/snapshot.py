"""A snapshot: vectors, ids and texts of one extraction as a directory that later stages open read-only.

    <first 16 hex digits of the digest>/
        manifest.json               what it holds and where it came from
        applicants_vectors.f32      float32 [N, applicant fields * D], row-major, memory-mapped
        applicants_ids.json         N ids in row order
        applicants_texts.jsonl      N lines {label: text} in row order
        jobs_vectors.f32, jobs_ids.json, jobs_texts.jsonl
        quarantine.jsonl            documents that could not be used

The quarantine list is no content: it is neither hashed nor part of the digest.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from dynaq.config import ExtractConfig, MongoConfig
from dynaq.errors import ArtifactError, InputError

SNAPSHOT_FORMAT = 1
MANIFEST = "manifest.json"

Side = Literal["applicants", "jobs"]
SIDES: tuple[Side, Side] = ("applicants", "jobs")

log = logging.getLogger(__name__)


def vectors_file(side: Side) -> str:
    """Name of the file with the vectors of one side."""
    return f"{side}_vectors.f32"


def ids_file(side: Side) -> str:
    """Name of the file with the ids of one side."""
    return f"{side}_ids.json"


def texts_file(side: Side) -> str:
    """Name of the file with the texts of one side."""
    return f"{side}_texts.jsonl"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cosine(_Record):
    """How the cosine of an applicant and a job is taken: of the two concatenations, or the mean over pairs.

    Attributes:
        pairs: [applicant field, job field], empty for the concatenation.
    """

    kind: Literal["concatenation", "pairs"]
    pairs: list[list[str]]

    @classmethod
    def of(cls, extract: ExtractConfig) -> Self:
        """The cosine that the configuration asks for."""
        pairs = [list(pair) for pair in extract.cosine_pairs]
        return cls(kind="pairs" if pairs else "concatenation", pairs=pairs)


class FileRecord(_Record):
    """Size and content hash of a file."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Measure a file."""
        with path.open("rb") as file:
            return cls(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


class Manifest(_Record):
    """What a snapshot holds and where it came from.

    Attributes:
        digest: sha256 of the content (ids, vectors, texts, field order, cosine), whenever it was extracted.
        created: when MongoDB was read last with this outcome, UTC in ISO format.
        job_vectors, applicant_vectors: field in MongoDB of each of job_fields, applicant_fields.
        dimension: size D of each vector.
        encoders: side -> name of the encoder -> documents, ``unknown`` where a document does not say.
        generated: side -> documents of a generated demo market.
        quarantined: embedding collection -> reason -> documents that could not be used, and text documents that
            it does not refer to (``no vectors``).
        without_text: side -> rows that have vectors but no text document.
        labelled: side -> label -> rows that have a text under it.
    """

    format: int = SNAPSHOT_FORMAT
    digest: str
    created: str
    database: str
    collections: dict[str, str]
    job_fields: list[str]
    applicant_fields: list[str]
    job_vectors: list[str]
    applicant_vectors: list[str]
    dimension: int
    jobs: int
    applicants: int
    cosine: Cosine
    encoders: dict[Side, dict[str, int]]
    generated: dict[Side, int]
    quarantined: dict[str, dict[str, int]]
    without_text: dict[Side, int]
    labelled: dict[Side, dict[str, int]]
    files: dict[str, FileRecord]

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        for side in SIDES:
            rows, columns = self.shape(side)
            for name in (vectors_file(side), ids_file(side), texts_file(side)):
                if name not in self.files:
                    raise ValueError(f"{name} is not listed")
            if self.files[vectors_file(side)].bytes != rows * columns * 4:
                raise ValueError(f"{vectors_file(side)} does not hold {rows} x {columns} numbers")
        return self

    def fields(self, side: Side) -> list[str]:
        """Fields of one side in column order."""
        return self.applicant_fields if side == "applicants" else self.job_fields

    def shape(self, side: Side) -> tuple[int, int]:
        """Rows and columns of the matrix of one side."""
        rows = self.applicants if side == "applicants" else self.jobs
        return rows, len(self.fields(side)) * self.dimension

    def offset(self, side: Side, field: str) -> int:
        """The first column of one field in the matrix of its side.

        Raises:
            InputError: the snapshot has no such field.
        """
        fields = self.fields(side)
        if field not in fields:
            raise InputError(f"snapshot {self.digest[:16]} has no field {field} among its {side}, only {fields}")
        return fields.index(field) * self.dimension

    def content_digest(self) -> str:
        """The sha256, in hex, of all that makes two snapshots the same for whoever learns from them."""
        kept = {"format", "job_fields", "applicant_fields", "dimension", "cosine", "files"}
        content = json.dumps(self.model_dump(include=kept), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Snapshot:
    """An open snapshot; pickled as its path and opened again on the other side.

    Attributes:
        path: its directory.
        manifest: what it holds.
        applicants: memory-mapped, read-only float32 [N, applicant fields * D].
        jobs: memory-mapped, read-only float32 [M, job fields * D].
        applicant_ids: N ids in row order.
        job_ids: M ids in row order.
    """

    path: Path
    manifest: Manifest
    applicants: NDArray[np.float32]
    jobs: NDArray[np.float32]
    applicant_ids: list[str]
    job_ids: list[str]

    def __reduce__(self) -> tuple[Callable[[Path], Snapshot], tuple[Path]]:
        """Pickle the path alone: another process maps the same pages instead of copying them."""
        return open_snapshot, (self.path,)

    @cached_property
    def applicant_texts(self) -> list[dict[str, str]]:
        """Label -> text of each applicant, in row order."""
        return self._texts("applicants")

    @cached_property
    def job_texts(self) -> list[dict[str, str]]:
        """Label -> text of each job, in row order."""
        return self._texts("jobs")

    def field_slice(self, side: Side, field: str) -> slice:
        """The columns of one field in the matrix of its side.

        Raises:
            InputError: the snapshot has no such field.
        """
        start = self.manifest.offset(side, field)
        return slice(start, start + self.manifest.dimension)

    def _texts(self, side: Side) -> list[dict[str, str]]:
        path = self.path / texts_file(side)
        texts = _parsed(path, lambda text: [json.loads(line) for line in text.split("\n")[:-1]])
        return _counted(texts, self.manifest.shape(side)[0], path)


def open_snapshot(path: Path, verify: bool = False) -> Snapshot:
    """Open a snapshot for reading.

    Args:
        path: its directory.
        verify: also hash every file; without it only the sizes are checked.

    Raises:
        ArtifactError: there is none, it is of another format, or a file is missing or damaged.
    """
    path = path.resolve()
    manifest = read_manifest(path)
    for name, record in manifest.files.items():
        _check_file(path / name, record, verify)
    if verify and manifest.content_digest() != manifest.digest:
        raise ArtifactError(f"{path / MANIFEST} was changed after it was written: {_EXTRACT_AGAIN}")
    matrices, ids = {}, {}
    for side in SIDES:
        shape = manifest.shape(side)
        matrices[side] = np.memmap(path / vectors_file(side), dtype=np.float32, mode="r", shape=shape)
        ids[side] = _counted(_parsed(path / ids_file(side), json.loads), shape[0], path / ids_file(side))
    return Snapshot(path, manifest, matrices["applicants"], matrices["jobs"], ids["applicants"], ids["jobs"])


def latest_snapshot(out_root: Path) -> Path:
    """The snapshot under a directory whose extraction is the most recent.

    Raises:
        ArtifactError: there is none.
    """
    found = []
    for path in out_root.glob(f"[!.]*/{MANIFEST}"):
        try:
            found.append((read_manifest(path.parent).created, path.parent))
        except ArtifactError as error:
            log.warning("skipped: %s", error)
    if not found:
        raise ArtifactError(f"there is no snapshot under {out_root}: run the extract flow")
    return max(found)[1]


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the snapshot in a directory.

    Raises:
        ArtifactError: there is none, or it is damaged or of another format.
    """
    file = path / MANIFEST
    tree = _parsed(file, json.loads)
    version = tree.get("format") if isinstance(tree, dict) else None
    if version != SNAPSHOT_FORMAT:
        raise ArtifactError(f"{file} has format {version}, only {SNAPSHOT_FORMAT} is read: {_EXTRACT_AGAIN}")
    try:
        return Manifest.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "manifest"
        raise ArtifactError(f"{file} is damaged ({where}: {first['msg']}): {_EXTRACT_AGAIN}") from None


def configured(mongo: MongoConfig, extract: ExtractConfig) -> dict[str, Any]:
    """The entries of a manifest that the configuration alone decides."""
    return {
        "collections": mongo.collections.model_dump(exclude={"labels"}),
        "job_fields": extract.job_fields,
        "applicant_fields": extract.applicant_fields,
        "job_vectors": [mongo.job_vectors[name] for name in extract.job_fields],
        "applicant_vectors": [mongo.applicant_vectors[name] for name in extract.applicant_fields],
        "dimension": extract.dimension,
        "cosine": Cosine.of(extract),
    }


def check_matches(manifest: Manifest, mongo: MongoConfig, extract: ExtractConfig) -> None:
    """Refuse a snapshot of another configuration.

    Raises:
        ArtifactError: its database, collections, fields, dimension or cosine differ.
    """
    wanted = {"database": mongo.database, **configured(mongo, extract)}
    found = {name: getattr(manifest, name) for name in wanted}
    if other := [f"{name} {found[name]} instead of {wanted[name]}" for name in wanted if found[name] != wanted[name]]:
        raise ArtifactError(
            f"snapshot {manifest.digest[:16]} was extracted with {', '.join(other)}:"
            " run the extract flow with this configuration"
        )


_EXTRACT_AGAIN = "run the extract flow again"


def _check_file(path: Path, record: FileRecord, verify: bool) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}: {_EXTRACT_AGAIN}") from None
    if size != record.bytes:
        raise ArtifactError(f"{path} has {size} bytes instead of {record.bytes}: {_EXTRACT_AGAIN}")
    if verify and FileRecord.of(path) != record:
        raise ArtifactError(f"{path} has another content than its manifest says: {_EXTRACT_AGAIN}")


def _parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}: run the extract flow") from None
    except ValueError:  # of JSON or of UTF-8
        raise ArtifactError(f"{path} is damaged: {_EXTRACT_AGAIN}") from None


def _counted(entries: list[Any], rows: int, path: Path) -> list[Any]:
    if len(entries) != rows:
        raise ArtifactError(f"{path} has {len(entries)} entries instead of {rows}: {_EXTRACT_AGAIN}")
    return entries
