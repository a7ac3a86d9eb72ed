"""The house in order: lint, types, import contract, deployments that name real flows."""

from __future__ import annotations

import importlib
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
import yaml

from flows.__main__ import FLOWS
from tests.paths import ROOT


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"]], ids=" ".join
)
def test_static_checks(command: list[str]) -> None:
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_deployments_name_flows_and_their_parameters() -> None:
    declared = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]
    for deployment in declared:
        path, name = deployment["entrypoint"].split(":")
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert set(deployment["parameters"]) <= set(inspect.signature(flow.fn).parameters)
    assert {d["name"] for d in declared} == set(FLOWS)
    assert [d["name"] for d in declared if d.get("schedules")] == ["nightly"]


@pytest.mark.parametrize("name", FLOWS)
def test_flows_can_be_pickled(name: str) -> None:
    """Prefect sends a flow, decorators and all, to the processes that its tasks are fanned out to."""
    cloudpickle.dumps(getattr(importlib.import_module(f"flows.{name}"), name))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "dynaq.service"
    example = (ROOT / "deployments" / "dynaq.service").read_text()
    unit.write_text(example.replace("/opt/dynaq/.venv/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
