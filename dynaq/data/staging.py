"""Publishing a snapshot: renamed whole into place, or renewed where the same content already lies.

A snapshot that is there already is hashed before it is kept: disks rot, and one more reading is little beside the
extraction that has just read MongoDB and hashed as much. Later stages trust it and look at the sizes of its files only:
every process of them would hash it again.
"""

from __future__ import annotations

from pathlib import Path

from dynaq.artifacts import flush, mark_used, rename_whole, set_aside
from dynaq.data.manifest import MANIFEST, SIDES, versions_file
from dynaq.data.quarantine import QUARANTINE
from dynaq.data.snapshot import open_snapshot
from dynaq.errors import ArtifactError


def publish_snapshot(staging: Path, final: Path, workdir: Path) -> None:
    """Rename a staged snapshot to its final name, or renew the same one that is there already.

    A snapshot of the same content keeps its vectors, ids and texts; its manifest, quarantine list and versions
    become those of this run, so that it counts as the latest. What stages have kept beside them has no digest and
    goes: they make it anew. A damaged snapshot is set aside under ``workdir``.
    """
    if rename_whole(staging, final):
        return
    renewed = [QUARANTINE, *map(versions_file, SIDES), MANIFEST]
    try:
        known = {*open_snapshot(final, verify=True).manifest.files, *renewed}
    except ArtifactError:
        set_aside(final, workdir, "its files are not those of its manifest")
        rename_whole(staging, final)
    else:
        for name in renewed:
            (staging / name).replace(final / name)
        for derived in final.iterdir():
            if derived.name not in known and derived.is_file():
                derived.unlink()
        mark_used(final)
        flush(final)
    flush(final.parent)
