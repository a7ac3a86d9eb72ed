"""One real Prefect server for all tests of flows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.servers import prefect_server
from tests.conftest import PREFECT_PORT


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the server's API, the one in PREFECT_API_URL; its database is in a directory of its own."""
    home: Path = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        with prefect_server(PREFECT_PORT, home / "server.log") as url:
            yield url


@pytest.fixture
def in_prefect(prefect_api: str) -> None:
    """Flows called in this process find the server."""
