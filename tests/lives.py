"""Whether a process is still there."""

from __future__ import annotations

import time
from pathlib import Path


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int, within_s: float) -> bool:
    """Whether a process is gone within so many seconds."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and lives(pid):
        time.sleep(0.1)
    return not lives(pid)
