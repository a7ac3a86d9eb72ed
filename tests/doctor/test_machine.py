"""What this machine has, and checks that hang or break."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.doctor.disk import check_disk
from dynaq.doctor.finding import Finding, examine
from dynaq.doctor.machine import check_packages, check_python, check_workdir, needed_extras
from dynaq.errors import InputError
from tests.paths import BASE_CONFIG, ROOT


def test_a_check_that_hangs_is_cut() -> None:
    started = time.monotonic()
    finding = examine(lambda: time.sleep(60) or Finding("ok", ""), limit_s=0.2)
    assert time.monotonic() - started < 5
    assert finding.line("mongodb") == "FAIL  mongodb: no answer within 0.2 s; see what it hangs on"


def test_a_check_that_raises_has_failed_and_tells_no_secret() -> None:
    def ours() -> Finding:
        raise InputError("port 9 is taken: choose another")

    def foreign() -> Finding:
        raise RuntimeError("mongodb://user:S3ntinel@host")

    assert examine(ours, 5).line("a") == "FAIL  a: port 9 is taken: choose another"
    assert examine(foreign, 5).line("b") == "FAIL  b: the check broke off with RuntimeError"


def test_a_line_is_one_line() -> None:
    assert Finding("ok", "3.11\n (main)").line("python") == "ok    python: 3.11 (main)"
    assert Finding("warn", "none", "set one").line("llm") == "warn  llm: none; set one"


@pytest.mark.parametrize(("wanted", "status"), [(">=3.11", "ok"), (">=4", "FAIL")])
def test_python(wanted: str, status: str) -> None:
    assert check_python(wanted).status == status


def test_packages_outside_their_range_or_missing_are_named_and_what_to_install() -> None:
    declared = ["numpy<1", "no-such-package>=1", "pymongo>=4", 'no-such-encoder; extra == "minilm"']
    finding = check_packages(declared, {"dask"})
    assert finding.status == "FAIL"
    assert finding.seen.endswith(" is not <1, no-such-package is missing")  # nobody needs the encoder
    assert finding.todo.endswith("'numpy<1' 'no-such-package>=1'")
    assert check_packages(declared[2:], set()).status == "ok"
    assert "no-such-encoder is missing" in check_packages(declared[2:], {"minilm"}).seen


def test_an_extra_is_needed_by_who_uses_it() -> None:
    assert needed_extras(load_config(BASE_CONFIG)) == set()
    demo = load_config(ROOT / "configs" / "demo.yaml", {"dask": "local"})
    assert needed_extras(demo) == {"minilm", "dask"}


@pytest.mark.parametrize(("utf8", "status"), [("0", "warn"), ("1", "ok")])
def test_an_encoding_that_is_not_utf8(utf8: str, status: str) -> None:
    code = "from dynaq.doctor.machine import check_locale; print(check_locale().status)"
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": utf8}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **plain}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == status


def test_a_working_directory_that_is_a_file(tmp_path: Path) -> None:
    assert check_workdir(tmp_path / "new").status == "ok"
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        finding = check_workdir(path)
        assert finding.status == "FAIL"
        assert "correct workdir" in finding.todo


def test_room_is_told_by_the_last_night(small_snapshot: Snapshot, tmp_path: Path) -> None:
    first = check_disk(tmp_path)
    assert "2.0 GiB is asked for a first night" in first.seen
    shutil.copytree(small_snapshot.path, tmp_path / "snapshots" / "last")
    (tmp_path / "mlflow.db").write_bytes(bytes(7 * 2**20))
    later = check_disk(tmp_path)
    assert later.status == "ok"
    assert later.seen.endswith("its snapshot 0 MiB, later files 7 MiB")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(8 * 2**40)  # a hole: it takes no room
    assert check_disk(tmp_path).status == "FAIL"
    os.utime(tmp_path / "huge", (0, 0))  # older than the snapshot: no part of its night
    assert check_disk(tmp_path).status == "ok"
