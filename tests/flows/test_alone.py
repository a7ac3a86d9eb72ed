"""Two runs at once in one working directory: one works, the other waits or refuses; a killed one is in nobody's way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynaq.errors import BusyError
from flows.alone import alone
from tests.lives import ends
from tests.paths import BASE_CONFIG, ROOT

HOLDER = """
import sys, time
from flows.alone import alone

@alone
def night(config, overrides):
    print("works", flush=True)
    time.sleep(60)

night(sys.argv[1], {"workdir": sys.argv[2]})
"""


@alone
def report(config: str, overrides: dict[str, Any] | None = None) -> float:
    return time.monotonic()


@alone
def night(config: str, overrides: dict[str, Any] | None = None) -> float:
    return report(config, overrides)  # as the nightly flow calls others


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, at work in tmp_path."""
    command = [sys.executable, "-c", HOLDER, str(BASE_CONFIG), str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        yield process
        process.kill()


def test_a_run_that_refuses_names_who_works_since_when(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    given = {"workdir": str(tmp_path), "night.on_busy": "refuse"}
    with pytest.raises(
        BusyError, match=rf"night \(process {holder.pid}, since 2\d\d\d-.* UTC\) writes into {tmp_path}"
    ):
        night(str(BASE_CONFIG), given)
    assert night(str(BASE_CONFIG), {**given, "workdir": str(tmp_path / "other")})
    holder.kill()
    holder.wait()
    assert night(str(BASE_CONFIG), given)
    assert night(str(BASE_CONFIG), overrides=given)  # and it has let go of the lock itself


def test_a_run_that_waits_says_so_and_goes_on_after_a_kill(
    holder: subprocess.Popen[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    later = subprocess.Popen(["sh", "-c", f"sleep 1; kill -9 {holder.pid}"])
    began = time.monotonic()
    assert night(str(BASE_CONFIG), {"workdir": str(tmp_path)}) - began > 0.9
    assert later.wait() == 0
    assert f"night (process {holder.pid}, since" in caplog.text
    assert "waiting until it has ended" in caplog.text


def test_a_worker_of_a_pool_does_not_outlive_a_killed_night() -> None:
    """It would write beside the next run, which finds the lock free."""
    script = ROOT / "tests" / "flows" / "pool_of_one.py"
    with subprocess.Popen([sys.executable, str(script)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
    assert ends(worker, 20)
