"""One embedded MongoDB a session, one database a test, and nothing of the developer's environment."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pymongo.database import Database

from dynaq.config import MongoConfig
from dynaq.config_file import load_config
from dynaq.data.connection import open_database
from flows.children import free_port
from tests.small_snapshot import small_snapshot as small_snapshot

# Before the test modules import what reads it: tests reach no server but their own, and send nothing home.
for _name in list(os.environ):
    if _name.startswith(("MONGODB_", "OPENAI_", "AZURE_OPENAI_", "DYNAQ_LLM_", "MLFLOW_", "PREFECT_API_")):
        del os.environ[_name]
PREFECT_PORT = free_port()  # where the server of the flow tests will listen: Prefect reads it when imported
os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{PREFECT_PORT}/api"
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="dynaq-prefect-")
atexit.register(shutil.rmtree, os.environ["PREFECT_HOME"], ignore_errors=True)
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

BASE_CONFIG = Path(__file__).parents[1] / "configs" / "base.yaml"

torch.set_num_threads(1)  # small networks: threads cost more than they bring


@pytest.fixture(scope="session")
def mongo_workdir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory whose embedded server runs until the session ends."""
    workdir = tmp_path_factory.mktemp("mongo")
    with open_database(load_config(BASE_CONFIG).mongo, workdir):
        yield workdir


@pytest.fixture
def mongo_config() -> MongoConfig:
    """The default names, in a database of this test's own."""
    return load_config(BASE_CONFIG).mongo.model_copy(update={"database": f"test_{uuid.uuid4().hex[:12]}"})


@pytest.fixture
def database(mongo_config: MongoConfig, mongo_workdir: Path) -> Iterator[Database[dict[str, Any]]]:
    """The test's database, open, and dropped afterwards."""
    with open_database(mongo_config, mongo_workdir) as opened:
        yield opened
        opened.client.drop_database(opened.name)
