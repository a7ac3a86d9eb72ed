"""Prefect and MLflow servers on loopback, as child processes: for `make ui`, and for a run that has no server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dynaq.errors import InputError, TransientError
from dynaq.processes import death_pact

_START_S = 120


@contextmanager
def prefect_server(port: int, log: Path) -> Iterator[str]:
    """A Prefect server on a port (0: any free one); yields the address of its API."""
    port = port or free_port()
    command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with _serving(command, port, "/api/health", log) as address:
        yield f"{address}/api"


@contextmanager
def mlflow_server(port: int, store: str, artifacts: Path, log: Path) -> Iterator[str]:
    """MLflow's pages over a store; yields their address."""
    command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # The store may hold a password: it goes through the environment, where `ps` does not show it.
    environment = {
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts.as_uri(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes of 240 MB for jobs that we do not have
    }
    with _serving(command, port, "/health", log, environment) as address:
        yield address


def answers(address: str) -> bool:
    """Whether a server answers a GET at this address with success."""
    try:
        with urllib.request.urlopen(address, timeout=2) as response:  # noqa: S310 - loopback http only
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def _serving(
    command: list[str], port: int, health: str, log: Path, environment: dict[str, str] | None = None
) -> Iterator[str]:
    if not _is_free(port):
        raise InputError(f"port {port} is taken: stop what listens there, or choose another port")
    log.parent.mkdir(parents=True, exist_ok=True)
    address = f"http://127.0.0.1:{port}"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is for us; the server and its children are stopped below
            preexec_fn=death_pact(signal.SIGTERM),
        )
    try:
        deadline = time.monotonic() + _START_S
        while not answers(address + health):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TransientError(f"the server on port {port} did not start; its log is {log}")
            time.sleep(0.3)
        yield address
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=10)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
