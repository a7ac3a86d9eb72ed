"""Room on the disk for another night."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path

from dynaq.data.snapshot import latest_snapshot, read_manifest
from dynaq.doctor.finding import Finding
from dynaq.errors import ArtifactError

_FIRST_NIGHT = 2 * 2**30  # bytes; the demo's writes a tenth of it


def check_disk(workdir: Path) -> Finding:
    """Whether there is room for another night like the last: its snapshot, and every file that was written since.

    Databases under the working directory count whole, so this is the most that it can have been.
    """
    free = shutil.disk_usage(workdir).free
    try:
        snapshot = latest_snapshot(workdir / "snapshots")
        manifest = read_manifest(snapshot)
    except ArtifactError:
        needed, why = _FIRST_NIGHT, "asked for a first night, there being no snapshot to tell by"
    else:
        kept = sum(file.bytes for file in manifest.files.values())
        since = _written_since(workdir, datetime.fromisoformat(manifest.created).timestamp(), snapshot)
        needed, why = kept + since, f"what the last night wrote: its snapshot {_size(kept)}, later files {_size(since)}"
    seen = f"{_size(free)} free under workdir, {_size(needed)} is {why}"
    if free < needed:
        return Finding("FAIL", seen, "make room, or set workdir to another disk")
    if free < 3 * needed:
        return Finding("warn", f"{seen}: room for less than three nights", "make room")
    return Finding("ok", seen)


def _written_since(root: Path, since: float, but: Path) -> int:
    """Bytes of all files under a directory that were written after a time, but for those of one directory."""
    total = 0
    for directory, names, files in os.walk(root):
        here = Path(directory)
        names[:] = [name for name in names if here / name != but]
        for name in files:
            try:
                status = (here / name).lstat()
            except OSError:  # gone meanwhile, or not ours to see
                continue
            total += status.st_size if status.st_mtime >= since else 0
    return total


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"
