"""Directories that exist only when they are whole: written aside, renamed into place, named by their inputs.

A stage whose directory is there has finished, on whatever night or machine; one that was killed left nothing under
that name. This is how a crashed flow run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from dynaq import __version__

_STALE = ".writing-"


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

    Two processes that write the same target write the same content, so the first one wins and the other's is dropped.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.parent / f"{_STALE}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    aside.mkdir()
    try:
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if not target.exists():
            try:
                aside.rename(target)
            except OSError:
                if not target.exists():
                    raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(root: Path) -> None:
    """Delete what killed processes of this machine were writing under ``root``."""
    for aside in root.glob(f"{_STALE}*"):
        pid = int(aside.name.removeprefix(_STALE).split("-")[0])
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(aside, ignore_errors=True)
