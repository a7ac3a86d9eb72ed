"""A whole night has the same figures however it is fanned out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.test_nightly import SMALL
from tests.paths import ROOT

RUNNERS = {"one": {"processes": 1}, "four": {"processes": 4}, "dask": {"processes": 2, "dask": "local"}}


def grades(workdir: Path) -> str:
    """Every applicant of the generated market has met every seventh job."""
    workdir.mkdir()
    path, met = workdir / "met.csv", ["applicant,job"]
    for applicant in range(int(SMALL["market.applicants"])):
        jobs = range(applicant % 7, int(SMALL["market.jobs"]), 7)
        met += [f"gen-applicant-{applicant:06d},gen-job-{job:06d}" for job in jobs]
    path.write_text("\n".join(met) + "\n")
    pairs = {"path": str(path), "applicant": "applicant", "job": "job"}
    return json.dumps(pairs | {"grade": None, "negatives": 20, "earlier": None})


def figures(prefect_api: str, workdir: Path, changes: dict[str, object]) -> bytes:
    """What a small night on a generated market finds; everything embedded, so that nothing is shared."""
    changes = {**SMALL, "workdir": workdir, "relevance": grades(workdir), **changes}
    command = [sys.executable, "-m", "flows", "nightly", "--config", "configs/demo.yaml"]
    for key, value in changes.items():
        command += ["--set", f"{key}={value}"]
    environment = {**os.environ, "PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(workdir / "prefect")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = workdir.glob("reports/*/figures.json")
    return found.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_whole_night_has_the_same_figures_however_it_is_fanned_out(prefect_api: str, tmp_path: Path) -> None:
    found = {name: figures(prefect_api, tmp_path / name, changes) for name, changes in RUNNERS.items()}
    assert found["one"] == found["four"] == found["dask"]
    told = json.loads(found["one"])
    assert told["fairness"]
    assert {arm["arm"] for arms in told["relevance"].values() for arm in arms} >= {"cosine", "raw cosine", "random"}
    assert len(found["one"]) > 10_000
