"""`make services`: the servers of Prefect and MLflow and a worker, on loopback, until they are told to stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from dynaq.config import Config
from dynaq.errors import ConfigError
from flows.children import Child
from flows.servers import mlflow_child, prefect_child

_POOL = "dynaq"
_NOTICE_URL = "DYNAQ_NOTICE_URL"
_LOST_AFTER_S = 300.0  # a busy machine takes its time between the start of a night and its lock
_NIGHT_GRACE_S = 45.0
_LOOK_S = 15.0

_Look = Callable[..., int | None]  # ``_look`` of these services


def run_services(config: Config, path: str) -> None:
    """Start everything, start again what dies, tell of bad nights, and stop it all on Ctrl-C or SIGTERM.

    Raises:
        ConfigError: a port in the environment is none, or Prefect refuses a deployment.
        InputError: a port is taken.
        TransientError: a server did not start.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # even where whoever started us ignores them, and so for the worker
        signal.signal(number, signal.default_int_handler)
    logs, address = config.work_path / "logs", os.environ.pop(_NOTICE_URL, "")  # nobody else need know it
    look = partial(_look, address, timedelta(hours=config.night.longest_h))
    servers, tracking = _servers(config, logs)
    os.environ["PREFECT_API_URL"] = f"{servers[0].address}/api"
    command = ["prefect", "worker", "start", "--pool", _POOL]
    worker = Child("worker", command, logs / "worker.log", tracking)
    try:
        for server in servers:
            server.start()
        from flows.register import register  # it imports Prefect, which then reads the address of the server
        from flows.watch import skip_missed_nights

        for server in servers:
            server.wait_until_ready()
            _say(f"{server.name} at {server.address}")
        register(_POOL, config.night, path, logs / "register.log")
        _say(f"nightly at {config.night.cron} {config.night.timezone}; logs in {logs}; Ctrl-C stops everything")
        if not address:
            _say(f"nobody is told of bad nights: {_NOTICE_URL} is not set")
        skip_missed_nights(_say)
        worker.start()
        api_file(config).write_text(os.environ["PREFECT_API_URL"])
        try:
            _keep([*servers, worker], look)
        except KeyboardInterrupt:
            _say("stopping; a night is given time to end")
            _end_nights(look)
            worker.stop()
            look(lost_after_s=0)
    finally:
        api_file(config).unlink(missing_ok=True)
        for child in (worker, *servers):
            child.stop()


def api_file(config: Config) -> Path:
    """Where the address of Prefect's API stands while the services run."""
    return config.work_path / "prefect-api-url"


def _servers(config: Config, logs: Path) -> tuple[list[Child], dict[str, str]]:
    """Prefect, and MLflow unless its server runs elsewhere; and what nights have to know of that one."""
    # It takes seconds, and other commands need not wait.
    from dynaq.tracking.mlflow_tracker import artifacts_path, tracking_uri

    prefect = prefect_child(_port("DYNAQ_PREFECT_PORT", 4200), logs / "prefect.log")
    store = tracking_uri(config)
    if store.startswith(("http://", "https://")):
        return [prefect], {}
    mlflow = mlflow_child(_port("DYNAQ_MLFLOW_PORT", 5000), store, artifacts_path(config), logs / "mlflow.log")
    return [prefect, mlflow], {"MLFLOW_TRACKING_URI": mlflow.address, "MLFLOW_BACKEND_STORE_URI": store}


def _keep(children: list[Child], look: _Look) -> None:
    """Start again what dies, and look at the nights, for ever."""
    while True:
        look()
        looked = time.monotonic()
        while time.monotonic() - looked < _LOOK_S:
            for child in children:
                if said := child.revive():
                    _say(said)
            time.sleep(1)


def _end_nights(look: _Look) -> None:
    """Let the worker end what is under way while there is a server to tell."""
    from flows.watch import cancel_nights

    deadline = time.monotonic() + _NIGHT_GRACE_S
    with suppress(Exception):  # a server that is gone
        cancel_nights()
    while look(lost_after_s=0) != 0 and time.monotonic() < deadline:
        time.sleep(1)


def _look(address: str, longest: timedelta, lost_after_s: float = _LOST_AFTER_S) -> int | None:
    """How many nights are under way; None where the server does not say."""
    from flows.watch import look_at_nights

    try:
        return look_at_nights(address, _say, timedelta(seconds=lost_after_s), longest)
    except Exception as error:  # the server may just be starting again
        _say(f"the nights could not be looked at ({type(error).__name__})")
        return None


def _say(text: str) -> None:
    print(f"services: {text}", flush=True)  # noqa: T201 - a line each, for whoever looks on or the journal


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise ConfigError(f"{variable} is {text!r}, it must be a port from 1 to 65535")
    return int(text)
