"""Fine-tuning that is killed with signal 9 goes on where it was, and ends with the same bytes and the same counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

from pymongo.database import Database

from dynaq.artifacts import finished
from dynaq.config import MongoConfig
from dynaq.data.snapshot import Snapshot
from tests.paths import ROOT
from tests.rewards.given import server

BUDGETS, A_STEP = [20, 60, 120], 10
PAID_NOW = {"calls_made", "from_store", "prompt_tokens"}  # moves between them with what was paid after the last save

TUNES = """
import sys
from pathlib import Path
from pydantic import SecretStr
from dynaq.agents import stages
from dynaq.agents.arms import Arm
from dynaq.config import MongoConfig
from dynaq.config_file import load_config
from dynaq.data.connection import open_database
from dynaq.data.snapshot import open_snapshot
from dynaq.llm.client import LabelClient
from dynaq.llm.endpoint import Endpoint
from dynaq.rewards.llm_feedback import LLMFeedback
from tests.agents.test_finetune_killed import A_STEP, BUDGETS
from tests.paths import BASE_CONFIG
from tests.rewards.given import open_labeller

mongo, mongo_workdir, snapshot, workdir, url = sys.argv[1:]
small = {"agent.hidden": [32], "agent.dropout": 0.1, "agent.batch_size": 16, "finetune.budgets": BUDGETS}
small |= {"finetune.applicants_per_step": A_STEP, "llm.concurrency": 4, "llm.max_retries": 0}
small |= {"workdir": workdir, "save_every_s": 1e-9}
config, snapshot, asked = load_config(BASE_CONFIG, small), open_snapshot(Path(snapshot)), 0
named = MongoConfig.model_validate_json(mongo)
with (
    open_database(named, Path(mongo_workdir)) as database,
    LabelClient(Endpoint("gpt-x", SecretStr(url), SecretStr("none")), config.llm) as client,
):
    labeller = open_labeller(database, client, config.llm, Path(workdir) / "journal")
    labeller.provenance = "openai:m"  # both servers of the test are one

    class Counted(LLMFeedback):
        def __call__(self, applicants, jobs):
            global asked
            asked += 1
            return super().__call__(applicants, jobs)

    reward = Counted(snapshot, labeller, config.llm)
    for path in stages.finetune(config, snapshot, Arm("llm", 0.3, 1), reward, 1.0):
        print(path)
    print(asked)
"""


def says(prompt: str) -> str:
    """What depends on the two texts alone, and now and then is no label."""
    text = prompt[prompt.index("hard_skills") :].replace(prompt.split("<job ")[1][:16], "")
    number = zlib.crc32(text.encode()) % 20
    return (
        f'{{"apply": {number / 20}, "save": 0.0, "ignore": {1 - number / 20}, "reason": "skills"}}' if number else "no"
    )


def test_a_killed_arm_goes_on_to_the_same_bytes(
    small_snapshot: Snapshot,
    database: Database[dict[str, Any]],
    mongo_config: MongoConfig,
    mongo_workdir: Path,
    tmp_path: Path,
) -> None:
    def tuning(workdir: Path, url: str) -> subprocess.Popen[str]:
        named = mongo_config.model_copy(update={"database": f"{database.name}_{workdir.name}"})
        arguments = [named.model_dump_json(), str(mongo_workdir), str(small_snapshot.path), str(workdir), url]
        command = [sys.executable, "-c", TUNES, *arguments]
        return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)

    def ended(child: subprocess.Popen[str]) -> tuple[list[Path], int]:
        *paths, steps = child.communicate(timeout=200)[0].split()
        assert child.returncode == 0
        return [Path(path) for path in paths], int(steps)

    stuck, over = threading.Event(), threading.Event()

    def stops(number: int, prompt: str) -> tuple[int, str]:
        if number >= 85:  # in the middle of a step of the last budget
            stuck.set()
            over.wait(100)
        return 200, says(prompt)

    with server(lambda _, prompt: (200, says(prompt))) as endpoint:
        url = endpoint.url.get_secret_value()
        whole, all_steps = ended(tuning(tmp_path / "whole", url))
        with server(stops) as other, tuning(tmp_path / "killed", other.url.get_secret_value()) as child:
            assert stuck.wait(100)
            child.kill()
            over.set()
        resumed, steps = ended(tuning(tmp_path / "killed", url))
    assert all_steps == BUDGETS[-1] // A_STEP
    assert steps <= all_steps - 8
    for ours, theirs in zip(resumed, whole, strict=True):
        assert finished(ours, tmp_path)
        for name in ("weights.safetensors", "curves.json"):
            assert (ours / name).read_bytes() == (theirs / name).read_bytes()
        manifests = [json.loads((path / "manifest.json").read_text()) for path in (ours, theirs)]
        assert manifests[0]["cost"]["missing: invalid json"] > 0
        for manifest in manifests:
            for name in PAID_NOW:
                del manifest["cost"][name]
        assert manifests[0] == manifests[1]
    assert not list((tmp_path / "killed").rglob("*.progress"))
    for name in ("whole", "killed"):
        database.client.drop_database(f"{database.name}_{name}")
