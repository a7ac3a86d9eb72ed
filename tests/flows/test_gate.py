"""An audit that has failed holds for a replay too, in which nothing is asked and no other audit is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect import flow

from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import LabelError
from flows.finetune import _weight
from tasks import labelling
from tests.paths import BASE_CONFIG
from tests.rewards.test_latest_audit import AUDIT

DAY = "2026-11-21"


@pytest.mark.usefixtures("in_prefect")
@pytest.mark.parametrize("below", ["stop", "weigh_down"])
def test_a_failed_audit_holds_for_a_replay(below: str, small_snapshot: Snapshot, tmp_path: Path) -> None:
    replay = {"workdir": str(tmp_path), "llm.replay_only": True, "llm.audit.gate.below": below}
    config = load_config(BASE_CONFIG, replay)
    directory = labelling._audits(config, small_snapshot, "rule-sim-v1") / DAY
    directory.mkdir(parents=True)
    failed = {**AUDIT, "passed": False, "weight": 0.25, "verdict": "kappa +0.100 lies below 0.4"}
    (directory / "audit.json").write_text(json.dumps(failed))
    nobody_there = "http://127.0.0.1:1/v1"

    @flow
    def weight() -> float:
        return _weight(config, small_snapshot, nobody_there, DAY)

    if below == "stop":
        with pytest.raises(LabelError, match=r"kappa \+0\.100 lies below 0\.4"):
            weight()
    else:
        assert weight() == 0.25
