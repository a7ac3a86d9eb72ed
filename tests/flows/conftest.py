"""One real Prefect server for all tests of flows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows.servers import prefect_server


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the server's API; its database is in a directory of its own."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        with prefect_server(0, home / "server.log") as url:
            yield url


@pytest.fixture
def in_prefect(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Flows called in this process talk to the server."""
    with temporary_settings({PREFECT_API_URL: prefect_api, PREFECT_HOME: tmp_path_factory.mktemp("home")}):
        yield
