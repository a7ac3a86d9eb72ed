"""Publishing a snapshot: renamed whole into place, or renewed where the same content already lies."""

from __future__ import annotations

import shutil
from pathlib import Path

from dynaq.artifacts import flush, rename_whole
from dynaq.data.manifest import MANIFEST
from dynaq.data.quarantine import QUARANTINE
from dynaq.data.snapshot import open_snapshot
from dynaq.errors import ArtifactError


def publish_snapshot(staging: Path, final: Path) -> None:
    """Rename a staged snapshot to its final name, or renew the same one that is there already.

    A snapshot of the same content keeps its vectors, ids and texts; its manifest and quarantine list become
    those of this run, so that it counts as the latest. A damaged one is replaced.
    """
    if rename_whole(staging, final):
        return
    try:
        open_snapshot(final, verify=True)
    except ArtifactError:
        aside = staging.with_name(f"{staging.name}-damaged")
        final.rename(aside)
        staging.rename(final)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        for name in (QUARANTINE, MANIFEST):
            (staging / name).replace(final / name)
        flush(final)
    flush(final.parent)
