"""A snapshot: vectors, ids and texts of one extraction as a directory that later stages open read-only.

    <first 16 hex digits of the digest>/
        manifest.json               what it holds and where it came from
        applicants_vectors.f32      float32 [N, applicant fields * D], row-major, memory-mapped
        applicants_ids.json         N ids in row order
        applicants_texts.jsonl      N lines {label: text} in row order
        jobs_vectors.f32, jobs_ids.json, jobs_texts.jsonl
        applicants_versions.u64, jobs_versions.u64  to tell tomorrow which documents have changed
        quarantine.jsonl            documents that could not be used

Versions and quarantine list are no content: they are neither hashed nor part of the digest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from dynaq.data.lines import JsonLines
from dynaq.data.manifest import (
    MANIFEST,
    SIDES,
    SNAPSHOT_FORMAT,
    FileRecord,
    Manifest,
    Side,
    ids_file,
    texts_file,
    vectors_file,
)
from dynaq.errors import ArtifactError

log = logging.getLogger(__name__)

Entries = TypeVar("Entries", bound=Sequence[Any])


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
    def applicant_texts(self) -> Sequence[dict[str, str]]:
        """Label -> text of each applicant, in row order."""
        return self._texts("applicants")

    @cached_property
    def job_texts(self) -> Sequence[dict[str, str]]:
        """Label -> text of each job, in row order."""
        return self._texts("jobs")

    def field_slice(self, side: Side, field: str) -> slice:
        """The columns of one field in the matrix of its side.

        Raises:
            InputError: the snapshot has no such field.
        """
        start = self.manifest.offset(side, field)
        return slice(start, start + self.manifest.dimension)

    def _texts(self, side: Side) -> Sequence[dict[str, str]]:
        lines = JsonLines(self.path / texts_file(side))
        return _counted(lines, self.manifest.shape(side)[0], lines.path)


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


def next_created(out_root: Path) -> str:
    """The time of an extraction: now, or just after the latest one where the clock went back since."""
    created = datetime.now(UTC)
    with suppress(ArtifactError):  # there is none yet
        latest = datetime.fromisoformat(read_manifest(latest_snapshot(out_root)).created)
        created = max(created, latest + timedelta(microseconds=1))
    return created.isoformat(timespec="microseconds")


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


def _counted(entries: Entries, rows: int, path: Path) -> Entries:
    if len(entries) != rows:
        raise ArtifactError(f"{path} has {len(entries)} entries instead of {rows}: {_EXTRACT_AGAIN}")
    return entries
