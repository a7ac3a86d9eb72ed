"""The servers of Prefect and MLflow on loopback: for `make services`, and for a run that has none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.children import Child, free_port


def prefect_child(port: int, log: Path) -> Child:
    """A Prefect server on a port, with its database in PREFECT_HOME."""
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    # Kept in memory, leases are lost when the server is: a night would then end, and its slot never come free.
    environment = {
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # by itself it keeps every run for ever
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    return Child("Prefect", command, log, environment, port, "/api/health")


def mlflow_child(port: int, store: str, artifacts: Path, log: Path) -> Child:
    """An MLflow server on a port, over a store."""
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # By path, not through the server: a night that runs without it finds the champion all the same.
    command += ["--no-serve-artifacts", "--default-artifact-root", artifacts.as_uri()]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": store,  # it may hold a password
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes of 240 MB for jobs that we do not have
    }
    return Child("MLflow", command, log, environment, port, "/health")


@contextmanager
def prefect_server(port: int, log: Path) -> Iterator[str]:
    """A Prefect server on a port (0: any free one); yields the address of its API."""
    with prefect_child(port or free_port(), log) as server:
        yield f"{server.address}/api"
