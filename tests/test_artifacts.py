"""What dead runs left is removed, what living ones write is not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from dynaq.artifacts import staged


def left_over(out_root: Path, host: str, pid: int, age_s: float = 0) -> Path:
    path = out_root / f".writing@{host}@{pid}@abcd"
    path.mkdir()
    (path / "jobs_vectors.f32").write_bytes(b"half")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_left_overs_of_dead_runs_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = socket.gethostname()
    dead = left_over(tmp_path, here, ended.pid)
    alive = left_over(tmp_path, here, os.getppid())
    elsewhere = left_over(tmp_path, "elsewhere", ended.pid)
    old = left_over(tmp_path, "elsewhere", os.getpid(), age_s=25 * 3600)
    with staged(tmp_path) as staging:
        assert staging.is_dir()
        assert {path.exists() for path in (alive, elsewhere)} == {True}
        assert {path.exists() for path in (dead, old)} == {False}
    assert not staging.exists()
