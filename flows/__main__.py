"""Command line: ``python -m flows nightly --config configs/demo.yaml --set agent.gamma=0``.

Exit status 0: done. 2: an error that is explained in one line. Runs against PREFECT_API_URL, else against the server
of a running ``make ui``, else against a Prefect server of its own that stops with it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dynaq.config import Config, load_config
from dynaq.errors import ConfigError, DynaqError
from flows.servers import answers, mlflow_server, prefect_server

FLOWS = ("ingest", "extract", "pretrain", "finetune", "compare", "nightly")


def main(arguments: list[str]) -> int:
    """Run one flow, or the pages; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        overrides = dict(_override(text) for text in options.set)
        config = load_config(options.config, overrides)
        os.environ.setdefault("PREFECT_HOME", str(config.work_path / "prefect"))
        if options.flow == "ui":
            _show_pages(config)
        elif "PREFECT_API_URL" in os.environ:
            _run(options.flow, options.config, overrides)
        else:
            # A process of its own, so that all it tells Prefect has arrived before the server stops.
            with _prefect_api(config) as api:
                command = [sys.executable, "-m", "flows", *arguments]
                return subprocess.call(command, env={**os.environ, "PREFECT_API_URL": api})
    except DynaqError as error:
        print(f"dynaq: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dynaq: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows", description="Run a dynaq flow, or show the pages (ui).")
    parser.add_argument("flow", choices=(*FLOWS, "ui"))
    parser.add_argument("--config", default="configs/demo.yaml", help="a YAML file (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one knob, e.g. agent.gamma=0"
    )
    return parser


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text}: write KEY=VALUE, for example agent.gamma=0")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {text}: {value!r} is not a YAML value") from None


def _run(name: str, config: str, overrides: dict[str, Any]) -> None:
    started = time.perf_counter()
    flow = getattr(importlib.import_module(f"flows.{name}"), name)  # only now: Prefect reads the environment
    result = flow(config, overrides)
    if name in ("compare", "nightly"):
        _print_report(result)
    print(f"{name} finished in {time.perf_counter() - started:.0f} s")


def _print_report(directory: Path) -> None:
    report = (directory / "report.md").read_text()
    for line in report.splitlines():
        if line.startswith(("# ", "## Online", "## The same", "**", ">", "|")):
            print(line)
    print(f"\nReport: {directory / 'report.html'}")
    print("Pages of MLflow and Prefect: make ui")


def _ui_file(config: Config) -> Path:
    return config.work_path / "prefect-api-url"


@contextmanager
def _prefect_api(config: Config) -> Iterator[str]:
    """A server for this run: workers in other processes would each start one of their own otherwise."""
    ui = _ui_file(config)
    if ui.exists() and answers(f"{ui.read_text()}/health"):
        yield ui.read_text()
        return
    with prefect_server(0, config.work_path / "logs" / "prefect.log") as url:
        yield url


def _show_pages(config: Config) -> None:
    from dynaq.tracking.mlflow_tracker import tracking_uri

    prefect_port = int(os.environ.get("DYNAQ_PREFECT_PORT", "4200"))
    mlflow_port = int(os.environ.get("DYNAQ_MLFLOW_PORT", "5000"))
    logs, artifacts = config.work_path / "logs", config.work_path / "mlartifacts"
    print("starting the pages ...", flush=True)
    with (
        prefect_server(prefect_port, logs / "prefect.log") as api,
        mlflow_server(mlflow_port, tracking_uri(config), artifacts, logs / "mlflow.log") as mlflow,
    ):
        _ui_file(config).write_text(api)
        try:
            print(f"Prefect  {api.removesuffix('/api')}\nMLflow   {mlflow}\nCtrl-C stops both", flush=True)
            while True:
                time.sleep(3600)
        finally:
            _ui_file(config).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
