"""Directories that exist only when they are whole: written aside, renamed into place, named by their inputs.

A stage whose directory is there has finished, on whatever night or machine; one that was killed left nothing under
that name. This is how a crashed flow run goes on where it stopped.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from dynaq import __version__
from dynaq.disk import needing_room
from dynaq.errors import ArtifactError

_ASIDE = ".writing"
_DAY_S = 24 * 3600


def inputs_key(**inputs: Any) -> str:
    """16 hex digits that change with any input; inputs are what JSON can hold."""
    text = json.dumps(inputs, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_version() -> str:
    """Version of the package and a digest of its sources: figures of two versions of the code are never confused."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for source in sorted(root.rglob("*.py")):
        digest.update(str(source.relative_to(root)).encode() + source.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Yield an empty directory to fill, then rename it to ``target`` in one step.

    Two processes that write the same target write the same content: the first wins, the other's is dropped.
    """
    with staged(target.parent) as directory:
        yield directory
        rename_whole(directory, target)


@contextmanager
def readable(what: str, path: Path) -> Iterator[None]:
    """Read what was published; raises ArtifactError, whatever a missing or damaged file raises inside."""
    try:
        yield
    except Exception as error:  # archives raise all kinds
        raise ArtifactError(f"{what} {path} cannot be read ({error}); delete the directory to repeat it") from None


@contextmanager
def staged(root: Path) -> Iterator[Path]:
    """A fresh directory under root, gone afterwards unless renamed; what dead runs left there is removed first."""
    directory = root / "@".join([_ASIDE, socket.gethostname(), str(os.getpid()), secrets.token_hex(4)])
    try:
        with needing_room(root):
            directory.mkdir(parents=True)
    except OSError as error:
        raise ArtifactError(f"cannot write into {root}: {error.strerror}") from None
    for left_over in root.glob(f"{_ASIDE}@*"):
        if _is_dead(left_over):
            shutil.rmtree(left_over, ignore_errors=True)
    try:
        with needing_room(root):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def rename_whole(directory: Path, target: Path) -> bool:
    """Flush a directory to disk and rename it; False if the target was there already."""
    for path in (*directory.iterdir(), directory):
        flush(path)
    try:
        directory.rename(target)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return False
    flush(target.parent)
    return True


def flush(path: Path) -> None:
    """Wait until a file or directory is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
