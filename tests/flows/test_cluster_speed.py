"""Pre-training on a Dask cluster of this machine: two workers against one, in seconds and in weights."""

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
@pytest.mark.timeout(1800)
def test_two_workers_train_the_same_agents_sooner(prefect_api: str, tmp_path: Path) -> None:
    for name in ("ingest", "extract"):
        flow(name, prefect_api, tmp_path / "1", {})
    seconds = {}
    for workers in (1, 2):
        workdir = tmp_path / str(workers)
        if workers > 1:
            shutil.copytree(tmp_path / "1" / "snapshots", workdir / "snapshots")
        changes: dict[str, object] = {"dask": "local", "processes": workers, "compare.seeds": SEEDS}
        seconds[workers] = flow("pretrain", prefect_api, workdir, changes)
        print(f"\n{workers} workers: {seconds[workers]:.0f} s")
    print(
        f"\n{len(weights(tmp_path / '1'))} agents on a Dask cluster of one worker in {seconds[1]:.0f} s, of two in"
        f" {seconds[2]:.0f} s: {seconds[1] / seconds[2]:.2f} times as fast, on {os.cpu_count()} cores"
    )
    assert weights(tmp_path / "1") == weights(tmp_path / "2")
    assert len(weights(tmp_path / "1")) == 2 * SEEDS
