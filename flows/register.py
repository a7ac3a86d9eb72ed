"""The work pool and the deployments, told to the server in PREFECT_API_URL; they may be told again and again."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.process import ProcessWorker

from dynaq.config import NightConfig
from dynaq.errors import ConfigError


def register(pool: str, night: NightConfig, config: str, log: Path) -> None:
    """Register the pool, of processes, and what stands in deployments/prefect.yaml of the current directory.

    Args:
        pool: its name.
        night: the schedule of the nightly flow.
        config: the configuration file that the flows are started with.
        log: what Prefect says.

    Raises:
        ConfigError: Prefect does not take it.
    """
    template = ProcessWorker.get_default_base_job_template()
    # One that is there may be paused, or have a limit.
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
    environment = {
        "DYNAQ_HOME": str(Path.cwd()),
        "DYNAQ_CONFIG": config,
        "DYNAQ_CRON": night.cron,
        "DYNAQ_TIMEZONE": night.timezone,
    }
    deploy = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    with log.open("wb") as output:
        done = subprocess.run(
            [*deploy, "--prefect-file", "deployments/prefect.yaml"],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        raise ConfigError(f"Prefect did not take the deployments: the reason is at the end of {log}")
