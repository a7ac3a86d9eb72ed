"""The manifest of a snapshot: what it holds, where it came from, and whether it is what the configuration asks for."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from dynaq.config import ExtractConfig, MongoConfig
from dynaq.errors import ArtifactError, InputError

_FLUSHED_AT_ONCE = 2**23  # bytes

SNAPSHOT_FORMAT = 1
MANIFEST = "manifest.json"
RECORD = ".record"  # ends the name of what says how a file beside a snapshot was written

Side = Literal["applicants", "jobs"]
SIDES: tuple[Side, Side] = ("applicants", "jobs")


def vectors_file(side: Side) -> str:
    """Name of the file with the vectors of one side."""
    return f"{side}_vectors.f32"


def ids_file(side: Side) -> str:
    """Name of the file with the ids of one side."""
    return f"{side}_ids.json"


def texts_file(side: Side) -> str:
    """Name of the file with the texts of one side."""
    return f"{side}_texts.jsonl"


def versions_file(side: Side) -> str:
    """Name of the file with the versions of one side's documents, which is no content: it may be missing or differ."""
    return f"{side}_versions.u64"


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


class HashedFile:
    """A file that is hashed while it is written, and goes to disk meanwhile, so that little is left for the end."""

    def __init__(self, path: Path) -> None:
        """Create the file."""
        self._file = path.open("wb")
        self._bytes = self._flushed = 0
        self._digest = hashlib.sha256()
        self._flusher, self._flush = ThreadPoolExecutor(1), Future[None]()
        self._flush.set_result(None)

    def write(self, content: bytes | memoryview) -> None:
        """Append.

        Raises:
            OSError: this, or what was written before, cannot be.
        """
        self._bytes += self._file.write(content)
        self._digest.update(content)
        if self._bytes - self._flushed > _FLUSHED_AT_ONCE and self._flush.done():
            self._flush.result()
            self._flush, self._flushed = self._flusher.submit(os.fsync, self._file.fileno()), self._bytes

    @property
    def record(self) -> FileRecord:
        """What has been written."""
        return FileRecord(bytes=self._bytes, sha256=self._digest.hexdigest())

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the file."""
        self._flusher.shutdown()
        self._file.close()
        self._flush.result()


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
        versions: digest of the versions of all documents (`unchanged`), None where one has none.
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
    versions: str | None = None

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        if elsewhere := [name for name in self.files if Path(name).name != name or name == ".."]:
            raise ValueError(f"{elsewhere[0]} is no file of the snapshot")
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
