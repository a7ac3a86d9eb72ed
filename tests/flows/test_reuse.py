"""Reuse of what earlier runs have finished is said, and can be refused; so is the removal of what is old."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from dynaq.artifacts import DAY_S, finished, publish
from dynaq.config_file import load_config
from flows.__main__ import _overrides, _parser
from flows.night import remove_old, say_reused
from tests.paths import BASE_CONFIG

LONG_AGO = 1e9


def make(path: Path, used: float | None = None) -> Path:
    with publish(path) as directory:
        (directory / "numbers").write_bytes(bytes(2_000_000))
    if used:
        os.utime(path, (used, used))
    return path


@flow
def night(workdir: Path) -> None:
    start = time.time() - 1  # file systems keep time by ticks
    old = [make(workdir / "one"), make(workdir / "two")]
    say_reused("pretrain", start, {"checkpoints": old})
    time.sleep(1.1)
    later = time.time() - 0.5
    assert all(finished(path, workdir) for path in old)
    runs = [*old, make(workdir / "three")]
    say_reused("compare", later, {"panels": [make(workdir / "four")], "online runs": runs, "rankings": []})
    here = {"workdir": str(workdir), "retention.nights": 1}
    remove_old(load_config(BASE_CONFIG, {**here, "tracking.uri": "nonsense://nowhere"}), start)
    remove_old(load_config(BASE_CONFIG, here), start)


@pytest.mark.usefixtures("in_prefect")
def test_reuse_and_removal_are_said_in_one_line_a_stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for day in range(3):
        make(tmp_path / "reports" / str(day), used=LONG_AGO + day * DAY_S)
    make(tmp_path / "panels" / "old", used=LONG_AGO)
    with caplog.at_level(logging.INFO):
        night(tmp_path)
    said = [line for line in caplog.messages if re.search("reused|removed", line)]
    assert said.pop(1).startswith("not everything old was removed: ")  # MLflow did not say who is champion
    assert said == [
        "compare: 0 of 1 panels, 2 of 3 online runs reused from earlier runs",
        "retention: removed 1 from panels (2.0 MB), used by none of the last 1 nights",
        "retention: removed 2 from reports (4.0 MB), used by none of the last 1 nights",
    ]


def test_fresh_on_the_command_line_is_a_text_that_can_be_given_again() -> None:
    def given(*arguments: str) -> dict[str, Any]:
        return _overrides(_parser().parse_args(["nightly", *arguments]))

    assert given() == {}
    token = given("--fresh")["fresh"]
    assert re.fullmatch(r"\d{8}T\d{6}Z", token)
    assert given("--set", f"fresh={token}") == given("--fresh", "--set", f"fresh={token}") == {"fresh": token}
