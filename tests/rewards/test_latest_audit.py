"""Which audit a night goes by where a clock was wrong, or went back."""

from __future__ import annotations

import json
from pathlib import Path

from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from tasks import labelling
from tests.paths import BASE_CONFIG

AUDIT = {
    "pairs": 0,
    "kappa": None,
    "change": None,
    "change_low": None,
    "change_high": None,
    "shares_first": {},
    "shares_now": {},
    "human_pairs": 0,
    "human_kappa": None,
    "weight": 1.0,
    "passed": True,
}


def test_audits_of_days_to_come_are_not_this_nights(small_snapshot: Snapshot, tmp_path: Path) -> None:
    config = load_config(BASE_CONFIG, {"workdir": str(tmp_path)})

    def verdict(day: str) -> str | None:
        found = labelling.latest_audit(config, small_snapshot, "rule-sim-v1", day)
        return found and found.verdict

    for day in ("2026-11-20", "2026-11-21", "2099-01-01"):
        directory = labelling._audits(config, small_snapshot, "rule-sim-v1") / day
        directory.mkdir(parents=True)
        (directory / "audit.json").write_text(json.dumps({**AUDIT, "verdict": day}))
    assert [verdict(day) for day in ("2026-11-19", "2026-11-21", "2026-11-25")] == [None, "2026-11-21", "2026-11-21"]
