"""Pre-training in a process, and on a Dask cluster of this machine of one worker and of two: seconds and weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

SEEDS = 8
RUNNERS: dict[str, dict[str, object]] = {
    "one process": {"processes": 1},
    "one worker": {"processes": 1, "dask": "local"},
    "two workers": {"processes": 2, "dask": "local"},
}
MARKET = {"market.jobs": 300, "market.applicants": 150}


def flow(name: str, prefect_api: str, workdir: Path, changes: dict[str, object]) -> float:
    """Run a flow of the demo in a working directory; the seconds it took after the start of its process."""
    command = [sys.executable, "-m", "flows", name, "--config", "configs/demo.yaml"]
    for key, value in {**MARKET, "workdir": workdir, **changes}.items():
        command += ["--set", f"{key}={value}"]
    environment = {**os.environ, "PREFECT_API_URL": prefect_api}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    took = re.search(rf"{name} finished in (\d+) s", done.stdout + done.stderr)
    assert took, done.stdout + done.stderr
    return float(took[1])


def weights(workdir: Path) -> dict[str, str]:
    manifests = (workdir / "checkpoints").glob("*/manifest.json")
    return {path.parent.name: json.loads(path.read_text())["weights"] for path in manifests}


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_two_workers_train_the_same_agents_sooner(prefect_api: str, tmp_path: Path) -> None:
    for name in ("ingest", "extract"):
        flow(name, prefect_api, tmp_path / "market", {})
    seconds = {}
    for name, changes in RUNNERS.items():
        shutil.copytree(tmp_path / "market" / "snapshots", tmp_path / name / "snapshots")
        seconds[name] = flow("pretrain", prefect_api, tmp_path / name, {"compare.seeds": SEEDS, **changes})
        print(f"\n{2 * SEEDS} agents, {name}: {seconds[name]:.0f} s", flush=True)
    alone, one, two = (weights(tmp_path / name) for name in RUNNERS)
    assert alone == one == two
    assert len(alone) == 2 * SEEDS
    assert seconds["two workers"] < seconds["one worker"]
