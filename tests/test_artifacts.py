"""What dead runs left is removed, what living ones write is not; what is damaged is seen and kept apart."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dynaq.artifacts import finished, made_before, publish, sources_digest, staged


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


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """Published in March 2001, two files."""
    with publish(tmp_path / "runs" / "one") as directory:
        (directory / "numbers.bin").write_bytes(bytes(100_000))
        (directory / "words.txt").write_text("well\n")
    path = tmp_path / "runs" / "one"
    for each in (*path.iterdir(), path):
        os.utime(each, (1e9, 1e9))
    return path


def test_a_whole_result_is_reused_and_marked_as_used(result: Path, tmp_path: Path) -> None:
    start = time.time() - 1
    assert not finished(tmp_path / "runs" / "other", tmp_path)
    assert finished(result, tmp_path)
    assert result.stat().st_mtime >= start
    assert made_before(result, start)  # a use makes nothing new
    assert not made_before(result, 1e9)
    sums = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=result)
    assert sums.returncode == 0


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda path: flip(path / "numbers.bin"), "(numbers.bin)"),
        (lambda path: (path / "words.txt").unlink(), "(words.txt)"),
        (lambda path: (path / "SHA256SUMS").unlink(), "SHA256SUMS"),
        (lambda path: (path / "SHA256SUMS").write_text(""), "(numbers.bin, words.txt)"),
        (lambda path: (path / "numbers.bin").rename(path / "numbers"), "(numbers, numbers.bin)"),
    ],
    ids=["a bit", "a file", "the digests", "the digests empty", "a name"],
)
def test_a_damaged_result_is_named_and_set_aside(
    result: Path, tmp_path: Path, damage: Callable[[Path], object], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage(result)
    left = {path.name: path.read_bytes() for path in result.iterdir()}
    with caplog.at_level(logging.WARNING):
        assert not finished(result, tmp_path)
    (said,) = caplog.messages
    assert f"{result} is damaged" in said
    assert named in said
    (aside,) = (tmp_path / "damaged").iterdir()
    assert aside.name.startswith("one-20")
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == left  # nothing is deleted
    assert not result.exists()


def test_who_judges_is_not_part_of_what_was_learned(tmp_path: Path) -> None:
    for name in ("agents/dyna_q.py", "evaluation/report/words.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("before = 1\n")

    def digests() -> tuple[str, str]:
        return sources_digest(tmp_path), sources_digest(tmp_path, without=("evaluation",))

    whole, learning = digests()
    (tmp_path / "evaluation/report/words.py").write_text("after = 1\n")
    assert digests()[0] != whole
    assert digests()[1] == learning
    (tmp_path / "agents/dyna_q.py").write_text("after = 1\n")
    assert digests()[1] != learning
