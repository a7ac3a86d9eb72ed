"""The command that takes a champion back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dynaq.config_file import load_config
from dynaq.errors import ArtifactError
from dynaq.evaluation.champion import Decision
from dynaq.tracking.checkpoint import save_checkpoint
from dynaq.tracking.mlflow_tracker import RunRecord
from dynaq.tracking.registry import Registry
from dynaq.tracking.spool import put
from flows.rollback import rollback
from tasks.champion import crown, fetch_champion
from tests.checkpoints import a_manifest
from tests.paths import BASE_CONFIG, ROOT


@pytest.mark.slow
def test_one_command_takes_the_champion_back(prefect_api: str, tmp_path: Path) -> None:
    config = load_config(BASE_CONFIG, {"workdir": str(tmp_path)})
    for seed in range(2):
        path = save_checkpoint(tmp_path / f"checkpoint-{seed}", {"q": torch.zeros(1)}, a_manifest(seed=seed), {})
        run = RunRecord(
            key=f"night-{seed}/cosine", name="cosine", started=1, artifacts={"checkpoint": path}, version={}
        )
        put(config, run)
        crown.fn(config, run.key, Decision(True, "far ahead"), fetch_champion.fn(config))

    command = [sys.executable, "-m", "flows", "rollback", "--config", str(BASE_CONFIG), "--set", f"workdir={tmp_path}"]
    environment = {**os.environ, "PREFECT_API_URL": prefect_api}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert "champion is now version 1 of dynaq, was version 2 of dynaq" in printed
    champion = Registry(config).champion()
    assert champion is not None
    assert champion.version == 1

    with pytest.raises(ArtifactError, match="version 1 of dynaq is the first champion: there is none before it"):
        rollback(str(BASE_CONFIG), {"workdir": str(tmp_path)})
