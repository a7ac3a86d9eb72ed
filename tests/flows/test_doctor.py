"""The doctor: a line for each part, whatever is there and whatever refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from pymongo.database import Database

from dynaq.config import MongoConfig
from dynaq.config_file import load_config
from dynaq.data.vectors import encode_vector
from dynaq.llm.rule_sim.process import rule_sim_server
from flows.children import free_port
from flows.prefect_checks import check_deployment, check_schedule, check_server
from tests.paths import BASE_CONFIG, ROOT

POOL = "doctors-pool"


def doctor(*changed: str, before: str = "", **environment: str) -> tuple[int, dict[str, str], str]:
    """Exit status, line by part, and all that was printed."""
    code = f"import sys; {before or 'pass'}; from flows.__main__ import main; sys.exit(main(sys.argv[1:]))"
    knobs = [each for knob in changed for each in ("--set", knob)]
    command = [sys.executable, "-c", code, "doctor", "--config", str(BASE_CONFIG), *knobs]
    inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    done = subprocess.run(command, cwd=ROOT, env={**inherited, **environment}, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert all(re.match(r"(ok  |warn|FAIL)  [a-z_]+: ", line) for line in lines), done.stdout
    return done.returncode, {line[6:].partition(":")[0]: line for line in lines}, done.stdout + done.stderr


@pytest.fixture
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def registered(client: SyncPrefectClient) -> Iterator[None]:
    """The night, in a pool of this test's own."""
    client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    schedule = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 2 * * *", timezone="Europe/Paris"))
    flow_id = client.create_flow_from_name("nightly")
    deployment = client.create_deployment(flow_id, "nightly", work_pool_name=POOL, schedules=[schedule])
    yield
    client.delete_deployment(deployment)
    client.delete_work_pool(POOL)


def test_a_night_that_nobody_registered_or_serves(prefect_api: str, client: SyncPrefectClient, request: Any) -> None:
    assert check_server(prefect_api).status == "ok"
    assert check_deployment(prefect_api).status == "warn"
    night = load_config(BASE_CONFIG).night
    assert check_schedule(prefect_api, night).status == "warn"
    request.getfixturevalue("registered")
    assert check_schedule(prefect_api, night.model_copy(update={"timezone": "Europe/Paris"})).status == "ok"
    other = check_schedule(prefect_api, night)
    assert other.status == "warn"
    assert "night.cron and night.timezone say 0 2 * * * in UTC" in other.seen
    idle = check_deployment(prefect_api)
    assert (idle.status, idle.todo) == ("FAIL", "start one (make services)")
    client.send_worker_heartbeat(POOL, "tester")
    assert check_deployment(prefect_api).status == "ok"
    client.pause_deployment(client.read_deployment_by_name("nightly/nightly").id)
    assert check_deployment(prefect_api).todo == "prefect deployment resume nightly/nightly"


@pytest.mark.usefixtures("registered")
def test_everything_is_there(
    prefect_api: str,
    client: SyncPrefectClient,
    mongo_config: MongoConfig,
    mongo_workdir: Path,
    database: Database[dict[str, Any]],
) -> None:
    client.send_worker_heartbeat(POOL, "tester")
    vector, names = encode_vector([1.0] * 384), mongo_config.collections
    texts = ("title", "skills", "soft_skills", "experience", "hard_skills", "seniority", "place", "remote", "pay")
    for text in (names.jobs, names.applicants):
        database[text].insert_one({"_id": "1", **dict.fromkeys((*texts, "pay_floor"), "welding")})
    for name, key, fields in (
        (names.job_embeddings, mongo_config.job_id, mongo_config.job_vectors),
        (names.applicant_embeddings, mongo_config.applicant_id, mongo_config.applicant_vectors),
    ):
        database[name].insert_one({key: "1", **dict.fromkeys(fields.values(), vector)})
    with rule_sim_server() as llm:
        status, lines, printed = doctor(
            f"workdir={mongo_workdir}",
            f"mongo.database={mongo_config.database}",
            "night.timezone=Europe/Paris",
            PREFECT_API_URL=prefect_api,
            OPENAI_BASE_URL=llm,
            DYNAQ_LLM_MODEL="rule-sim-v1",
        )
    assert [line for line in lines.values() if not line.startswith("ok ")] == [], printed
    assert status == 0
    parts = ["python", "packages", "encoding", "workdir", "disk", "mongodb"]
    parts += ["all_jobs", "job_embeddings", "candidates_text", "candidates_embeddings"]
    assert list(lines) == [*parts, "llm", "mlflow", "prefect", "nightly", "schedule"]
    assert "0 2 * * * in Europe/Paris" in lines["schedule"]


def test_everything_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    secret = "S3ntinel"
    status, lines, printed = doctor(
        f"workdir={tmp_path / 'file'}",
        "mongo.timeout_s=0.5",
        MONGODB_URI=f"mongodb://somebody:{secret}@127.0.0.1:{free_port()}/",
        OPENAI_BASE_URL=f"http://somebody:{secret}@127.0.0.1:{free_port()}/v1",
        OPENAI_API_KEY=secret,
        DYNAQ_LLM_MODEL="gpt-5",
        MLFLOW_TRACKING_URI=f"http://somebody:{secret}@127.0.0.1:{free_port()}",
        PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api",
        PREFECT_HOME=str(tmp_path / "prefect"),
        PREFECT_API_AUTH_STRING=f"somebody:{secret}",
    )
    failed = [name for name, line in lines.items() if line.startswith("FAIL")]
    assert failed == ["workdir", "mongodb", "llm", "mlflow", "prefect"]
    assert status == 2
    assert secret not in printed
    assert "Traceback" not in printed


def test_services_that_were_killed_are_no_server_of_a_flow(tmp_path: Path) -> None:
    (tmp_path / "prefect-api-url").write_text(f"http://127.0.0.1:{free_port()}/api")
    status, lines, _ = doctor(f"workdir={tmp_path}", MONGODB_URI="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1")
    assert status == 2
    assert lines["prefect"].startswith("FAIL  prefect: the server of PREFECT_API_URL, or of services that were killed")


def test_a_package_that_is_missing_is_a_line(tmp_path: Path) -> None:
    status, lines, printed = doctor(f"workdir={tmp_path}", before="sys.modules['openai'] = None")
    assert status == 2
    assert "openai" in lines["imports"]
    assert "Traceback" not in printed
