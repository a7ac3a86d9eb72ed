"""A judge that cannot be heard costs no night: agents are compared without it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from tasks.judges import grade_lists
from tests.paths import BASE_CONFIG
from tests.rewards.given import server


def test_a_refused_key_loses_no_report(
    small_snapshot: Snapshot, mongo_workdir: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {
        "workdir": str(mongo_workdir),
        "mongo.database": "refused_judge",
        "judge": {"persona": "a recruiter of 20 years", "applicants": 4, "jobs": 4},
    }
    with server(lambda *_: (401, "invalid_api_key")) as endpoint, caplog.at_level(logging.WARNING, "dynaq"):
        monkeypatch.setenv("DYNAQ_JUDGE_MODEL", endpoint.model)
        monkeypatch.setenv("DYNAQ_JUDGE_BASE_URL", endpoint.url.get_secret_value())
        monkeypatch.setenv("DYNAQ_JUDGE_API_KEY", "sk-refused")
        assert grade_lists.fn(load_config(BASE_CONFIG, overrides), small_snapshot.path) == []
    (said,) = [record.getMessage() for record in caplog.records if "judge" in record.getMessage()]
    assert said.startswith("the judge was not heard: ")
    assert "401" in said
    assert "sk-refused" not in said
