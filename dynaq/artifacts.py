"""Directories that exist only when they are whole: written aside, renamed into place, named by their inputs.

A stage whose directory is there has finished, on whatever night or machine; one that was killed left nothing under
that name. This is how a crashed flow run goes on where it stopped. A directory carries the digests of its files, for
disks rot; and its modification time is that of its last use, by which old ones are pruned (tracking/retention.py).
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from dynaq import __version__
from dynaq.disk import needing_room
from dynaq.errors import ArtifactError

log = logging.getLogger(__name__)

DAY_S = 24 * 3600
_ASIDE = ".writing"
_SUMS = "SHA256SUMS"  # as sha256sum writes and checks them


def inputs_key(**inputs: Any) -> str:
    """16 hex digits that change with any input; inputs are what JSON can hold."""
    text = json.dumps(inputs, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_version() -> str:
    """Version of the package and a digest of its sources: figures of two versions of the code are never confused."""
    return f"{__version__}+{sources_digest(Path(__file__).parent)}"


@cache
def training_code() -> str:
    """The same without the packages that only judge: who changes a report need not train and label again.

    Nothing that learns imports them, by the import contract.
    """
    return f"{__version__}+{sources_digest(Path(__file__).parent, without=('doctor', 'evaluation'))}"


def sources_digest(root: Path, without: Collection[str] = ()) -> str:
    """12 hex digits of all Python sources under a directory, names included, but for some of its packages."""
    digest = hashlib.sha256()
    for source in sorted(root.rglob("*.py")):
        name = source.relative_to(root)
        if name.parts[0] not in without:
            digest.update(str(name).encode() + source.read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Yield an empty directory to fill, then rename it to ``target`` in one step, with the digests of its files.

    Two processes that write the same target write the same content: the first wins, the other's is dropped.
    """
    with staged(target.parent) as directory:
        yield directory
        (directory / _SUMS).write_text(_sums(directory))
        rename_whole(directory, target)


def finished(target: Path, workdir: Path) -> bool:
    """Whether a published result is there and whole; it then counts as used now.

    A damaged one is set aside under ``workdir``, so that the stage that asks makes it anew.
    """
    if not target.exists():
        return False
    mark_used(target)  # before it is read: from now on nobody prunes it
    if damage := _damage(target):
        set_aside(target, workdir, damage)
    return not damage


def set_aside(path: Path, workdir: Path, damage: str) -> None:
    """Move what is damaged to ``workdir/damaged``, where its owner may look at it; somebody else may be first.

    Raises:
        ArtifactError: it cannot be moved.
    """
    aside = workdir / "damaged" / f"{path.name}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
        path.rename(aside)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ArtifactError(f"{path} is damaged ({damage}) and cannot be set aside: {error.strerror}") from None
    mark_used(aside)
    log.warning("%s is damaged (%s): set aside as %s, to be made anew", path, damage, aside)


def mark_used(path: Path) -> None:
    """Give a result the time of now; where that is not allowed, retention is not ours either."""
    with suppress(OSError):
        os.utime(path)


def made_before(path: Path, moment: float) -> bool:
    """Whether a result was finished before a moment, in seconds since 1970, whoever has used it since."""
    return min(file.stat().st_mtime for file in path.iterdir()) < moment


@contextmanager
def readable(what: str, path: Path) -> Iterator[None]:
    """Read what was published; raises ArtifactError, whatever a missing or damaged file raises inside."""
    try:
        yield
    except Exception as error:  # archives raise all kinds
        raise ArtifactError(f"{what} {path} cannot be read ({error}): run the flow again to make it anew") from None


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


def _sums(directory: Path) -> str:
    lines = []
    for path in sorted(directory.iterdir()):
        if path.name != _SUMS:
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return "".join(lines)


def _damage(directory: Path) -> str:
    """The files of a published directory that are not as they were written, or why they cannot be read; or nothing."""
    try:
        written, found = (directory / _SUMS).read_text(errors="replace"), _sums(directory)
    except OSError as error:
        return str(error)
    other = set(written.splitlines()) ^ set(found.splitlines())
    return ", ".join(sorted({line.partition("  ")[2] for line in other}))


def _is_dead(left_over: Path) -> bool:
    """Whether the run that wrote a staging directory is over; one on another machine is given a day."""
    try:
        if time.time() - left_over.stat().st_mtime > DAY_S:
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
