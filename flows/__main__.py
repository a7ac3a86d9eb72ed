"""Command line: ``python -m flows nightly --config configs/demo.yaml --set agent.gamma=0 --fresh``.

Exit status 0: done. 2: an error that is explained in one line. 130: interrupted. Runs against PREFECT_API_URL, else
against the server of a running ``make services``, else against a Prefect server of its own that stops with it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import yaml

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.errors import ConfigError, DynaqError
from dynaq.llm.endpoint import resolve_endpoint, resolve_judge
from dynaq.processes import death_pact
from flows.children import answers
from flows.doctor import doctor
from flows.servers import prefect_server
from flows.services import api_file, run_services

_GRACE_S = 45.0  # for what runs when a flow is interrupted

FLOWS = ("ingest", "extract", "pretrain", "finetune", "canaries", "compare", "nightly", "rollback")


def main(arguments: list[str]) -> int:
    """Run one flow, the services or the doctor; returns the exit status."""
    options, again = _parser().parse_args(arguments), "the same command"
    try:
        overrides = _overrides(options)
        if options.fresh:
            again += f" with --set fresh={overrides['fresh']}"
            print(f"dynaq: no result of earlier runs is reused; if interrupted, {again} goes on", file=sys.stderr)
        config = load_config(options.config, overrides)
        os.environ.setdefault("PREFECT_HOME", str(config.work_path / "prefect"))
        if options.flow == "doctor":
            return doctor(config, _known_api(config))
        _make_workdir(config)
        if options.flow == "services":
            if overrides:
                raise ConfigError("services takes no --set: the nights that it starts read --config alone")
            run_services(config, options.config)
        else:
            resolve_endpoint()  # half an LLM in the environment is said before anything starts
            resolve_judge()
            with _prefect_api(config) as api:
                return _supervise([options.flow, options.config, json.dumps(overrides)], api)
    except DynaqError as error:
        print(f"dynaq: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"dynaq: interrupted; {again} goes on where it stopped", file=sys.stderr)
        return 130
    return 0


def _supervise(arguments: list[str], api: str) -> int:
    """Run a flow in a process of its own; all it tells Prefect has then arrived before the server stops.

    Ctrl-C and SIGTERM reach this process only. It passes the interrupt on to the flow, which lets what is running
    finish and store what was paid for, and ends the flow and all its workers when that takes too long.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.run", *arguments],
        env={**os.environ, "PREFECT_API_URL": api},
        start_new_session=True,
        preexec_fn=death_pact(signal.SIGTERM),
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        print("dynaq: stopping; press Ctrl-C again to stop at once", file=sys.stderr)
        process.send_signal(signal.SIGINT)
        with suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _make_workdir(config: Config) -> None:
    try:
        config.work_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"workdir {config.work_path} cannot be made: {error.strerror}") from None
    if not os.access(config.work_path, os.W_OK | os.X_OK):
        raise ConfigError(f"workdir {config.work_path} cannot be written to")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows", description="Run a dynaq flow, all services, or check what nights need (doctor)."
    )
    parser.add_argument("flow", choices=(*FLOWS, "services", "doctor"))
    parser.add_argument("--config", default="configs/demo.yaml", help="a YAML file (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one knob, e.g. agent.gamma=0"
    )
    parser.add_argument("--fresh", action="store_true", help="reuse no result of earlier runs, but for paid labels")
    return parser


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """The knobs that the command line changes; a fresh run is one that no other shares the time with."""
    fresh = {"fresh": f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"} if options.fresh else {}
    return fresh | dict(_override(text) for text in options.set)


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text}: write KEY=VALUE, for example agent.gamma=0")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: {value!r} is not a YAML value") from None


def _known_api(config: Config) -> str | None:
    """PREFECT_API_URL, or the address of services, which may have been killed."""
    services = api_file(config)
    return os.environ.get("PREFECT_API_URL") or (services.read_text() if services.exists() else None)


@contextmanager
def _prefect_api(config: Config) -> Iterator[str]:
    """A server for this run: workers in other processes would each start one of their own otherwise."""
    api = _known_api(config)
    if api and (api == os.environ.get("PREFECT_API_URL") or answers(f"{api}/health")):
        yield api
        return
    with prefect_server(0, config.work_path / "logs" / "prefect.log") as url:
        yield url


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
