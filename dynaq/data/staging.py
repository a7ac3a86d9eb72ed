"""Publishing a snapshot: renamed whole into place, or renewed where the same content already lies.

A snapshot that is there already is hashed before it is kept, once in an extraction: disks rot. Later stages trust it
and look at the sizes of its files only: every process of them would hash it again.
"""

from __future__ import annotations

from pathlib import Path

from dynaq.artifacts import flush, mark_used, rename_whole, set_aside
from dynaq.data.manifest import MANIFEST, RECORD, SIDES, FileRecord, versions_file
from dynaq.data.quarantine import QUARANTINE
from dynaq.data.snapshot import Snapshot, open_snapshot
from dynaq.errors import ArtifactError

_RENEWED = [QUARANTINE, *map(versions_file, SIDES), MANIFEST]


def publish_snapshot(staging: Path, final: Path, workdir: Path, hashed: Snapshot | None = None) -> None:
    """Rename a staged snapshot to its final name, or renew the same one that is there already.

    A damaged one is set aside under ``workdir``; ``hashed`` is one that is known to be whole.
    """
    if not final.exists() and rename_whole(staging, final):
        return
    try:
        there = hashed if hashed and hashed.path == final.resolve() else open_snapshot(final, verify=True)
    except ArtifactError:
        set_aside(final, workdir, "its files are not those of its manifest")
        rename_whole(staging, final)
    else:
        renew(staging, there)


def renew(staging: Path, snapshot: Snapshot) -> None:
    """Make a snapshot count as the latest: what is staged of manifest, quarantine list and versions becomes its own.

    Vectors, ids and texts stay. What stages have kept beside them stays where the record beside it says that it is as
    it was written, and goes otherwise: they make it anew.
    """
    for name in _RENEWED:
        if (staging / name).exists():
            flush(staging / name)
            (staging / name).replace(snapshot.path / name)
    records = [record for record in snapshot.path.glob(f"*{RECORD}") if _is_whole(record)]
    known = {*snapshot.manifest.files, *_RENEWED, *(name for record in records for name in (record.name, record.stem))}
    for derived in snapshot.path.iterdir():
        if derived.name not in known and derived.is_file():
            derived.unlink()
    mark_used(snapshot.path)
    flush(snapshot.path)
    flush(snapshot.path.parent)


def _is_whole(record: Path) -> bool:
    """Whether the file of a record is as it says."""
    try:
        return FileRecord.of(record.with_suffix("")) == FileRecord.model_validate_json(record.read_text())
    except (OSError, ValueError):
        return False
