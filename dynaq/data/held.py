"""What the last snapshot holds of documents that have not changed since: a night reads the others only.

A document has changed when the field that ``mongo.versions`` names has another value, or the document another ``_id``.
Any field will do that changes with each write, as a hash of the content or the time of the last update: versions are
compared for equality, so that no clock has to be right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bson
import numpy as np
from numpy.typing import NDArray

from dynaq.artifacts import set_aside
from dynaq.data.manifest import SIDES, Side, versions_file
from dynaq.data.snapshot import Snapshot, latest_snapshot, open_snapshot
from dynaq.errors import ArtifactError

UNKNOWN = 0  # the version of a document without one


@dataclass(frozen=True)
class Held:
    """One side of a snapshot with N documents.

    Attributes:
        row_of: id -> row.
        versions: uint64 [N, 2], of the vector document and of the text document of each row.
        vectors: float32 [N, fields * D].
        texts: N times label -> text.
    """

    row_of: dict[str, int]
    versions: NDArray[np.uint64]
    vectors: NDArray[np.float32]
    texts: Sequence[dict[str, str]]

    def unchanged(self, ids: Sequence[Any], versions: Sequence[int], which: int) -> NDArray[np.intp]:
        """Rows of documents whose vector (which = 0) or text (1) is as it was, -1 for all others: int [n]."""
        rows = np.array([self.row_of.get(str(each), -1) for each in ids], dtype=np.intp)
        now = np.array(versions, dtype=np.uint64)
        return np.where((self.versions[rows, which] == now) & (now != UNKNOWN), rows, -1)


def version_of(values: Sequence[Any], salt: bytes) -> int:
    """A number for what fields of a document hold, the last of which is its version; with other salt, another."""
    if values[-1] is None:
        return UNKNOWN
    return int.from_bytes(hashlib.blake2b(bson.encode({"": list(values)}), key=salt, digest_size=8).digest(), "little")


def whole_latest(out_root: Path) -> Snapshot | None:
    """The most recent snapshot under a directory, hashed; a damaged one is set aside: no damaged row lives on."""
    try:
        path = latest_snapshot(out_root)
    except ArtifactError:
        return None
    try:
        return open_snapshot(path, verify=True)
    except ArtifactError as error:
        set_aside(path, out_root.parent, str(error))
        return None


def held_by(snapshot: Snapshot, columns: Mapping[Side, int]) -> dict[Side, Held]:
    """Each side of a snapshot whose versions are there, as far as its rows have so many columns."""
    held: dict[Side, Held] = {}
    for side in SIDES:
        path = snapshot.path / versions_file(side)
        versions = np.fromfile(path, dtype="<u8") if path.is_file() else np.empty(0, dtype="<u8")
        vectors, ids, texts = (
            (snapshot.applicants, snapshot.applicant_ids, snapshot.applicant_texts)
            if side == "applicants"
            else (snapshot.jobs, snapshot.job_ids, snapshot.job_texts)
        )
        if versions.size == 2 * len(ids) and vectors.shape[1] == columns[side]:
            rows = {each: row for row, each in enumerate(ids)}
            held[side] = Held(rows, versions.reshape(-1, 2), vectors, texts)
    return held
