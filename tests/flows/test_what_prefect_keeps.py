"""Prefect's server listens on loopback, and keeps flows neither as pickles nor for ever."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
import requests
from prefect.settings import get_current_settings

from dynaq.errors import InputError
from flows.extract import extract
from tests.conftest import PREFECT_PORT
from tests.paths import BASE_CONFIG


@pytest.mark.usefixtures("prefect_api")
def test_the_server_listens_on_loopback_only() -> None:
    """Who listens everywhere answers at every address of loopback."""
    socket.create_connection(("127.0.0.1", PREFECT_PORT), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", PREFECT_PORT), timeout=5)


def test_old_runs_leave_its_database(prefect_api: str) -> None:
    vacuum = requests.get(f"{prefect_api}/admin/settings", timeout=10).json()["server"]["services"]["db_vacuum"]
    assert sorted(vacuum["enabled"]) == ["events", "flow_runs"]


@pytest.mark.usefixtures("in_prefect")
def test_an_error_is_kept_as_json_and_no_result_is(mongo_workdir: Path) -> None:
    storage = get_current_settings().results.local_storage_path
    shutil.rmtree(storage, ignore_errors=True)
    with pytest.raises(InputError, match="ingest flow"):
        extract(str(BASE_CONFIG), {"workdir": str(mongo_workdir), "mongo.database": "nothing_to_extract"})
    (kept,) = [json.loads(path.read_text()) for path in storage.iterdir()]
    assert kept["__exc_type__"] == "dynaq.errors.InputError"
