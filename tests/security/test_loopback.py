"""Every server that is started listens on loopback, and on nothing else."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from pymongo.database import Database

from dynaq.config_file import load_config
from dynaq.llm.rule_sim.process import rule_sim_server
from flows.children import free_port
from flows.fan_out import _runner
from flows.servers import mlflow_child
from tests.paths import BASE_CONFIG


def addresses(server: str | None = None) -> set[str]:
    """Where this process and all that it has started listen; the server's port must be among them."""
    this, found = psutil.Process(), set()
    for process in (this, *this.children(recursive=True)):
        for each in process.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN:
                found.add((each.laddr.ip, each.laddr.port))
    assert server is None or ("127.0.0.1", urlsplit(server).port) in found
    return {ip for ip, _ in found}


@pytest.mark.slow
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HOST", "0.0.0.0")  # what MLflow would read if it were not told
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with mlflow_child(free_port(), store, tmp_path / "artifacts", tmp_path / "mlflow.log") as child:
        assert addresses(child.address) == {"127.0.0.1"}


def test_the_stand_in() -> None:
    with rule_sim_server() as url:
        assert addresses(url) == {"127.0.0.1"}


def test_the_embedded_mongod(database: Database[dict[str, Any]]) -> None:
    """Its keeper is nobody's child; but who listens everywhere also answers at the other addresses of loopback."""
    assert database.client.address is not None
    port = database.client.address[1]
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Dask's own
def test_a_dask_cluster_on_this_machine(tmp_path: Path) -> None:
    config = load_config(BASE_CONFIG, {"workdir": str(tmp_path), "dask": "local"})
    with _runner(config, calls=2) as runner:
        assert addresses(runner.client.scheduler.address) == {"127.0.0.1"}
