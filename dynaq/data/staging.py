"""A directory that appears whole or not at all: written aside, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dynaq.data.quarantine import QUARANTINE
from dynaq.data.snapshot import MANIFEST, open_snapshot
from dynaq.errors import ArtifactError

_PREFIX = ".extract"
_DAY_S = 24 * 3600


@contextmanager
def staged(out_root: Path) -> Iterator[Path]:
    """A fresh directory under out_root for this run, gone afterwards unless it was published.

    What dead runs left there is removed first.
    """
    out_root.mkdir(parents=True, exist_ok=True)
    for left_over in out_root.glob(f"{_PREFIX}@*"):
        if _is_dead(left_over):
            shutil.rmtree(left_over, ignore_errors=True)
    staging = out_root / "@".join([_PREFIX, socket.gethostname(), str(os.getpid()), secrets.token_hex(4)])
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, final: Path) -> None:
    """Rename a staged snapshot to its final name, or renew the same one that is there already.

    A snapshot of the same content keeps its vectors, ids and texts; its manifest and quarantine list become
    those of this run, so that it counts as the latest. A damaged one is replaced.
    """
    for path in (*staging.iterdir(), staging):
        _flush(path)
    try:
        staging.rename(final)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        _renew(staging, final)
    _flush(final.parent)


def _renew(staging: Path, final: Path) -> None:
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
        _flush(final)


def _is_dead(left_over: Path) -> bool:
    """Whether the run that wrote a staging directory is over; one on another machine is given a day."""
    try:
        if time.time() - left_over.stat().st_mtime > _DAY_S:
            return True
        _, host, pid, _ = left_over.name.split("@")
        if host != socket.gethostname():
            return False
        os.kill(int(pid), 0)
    except (FileNotFoundError, ProcessLookupError):
        return True
    except PermissionError:  # the process lives, under another account
        return False
    return False


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
