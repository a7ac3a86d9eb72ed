"""One run at a time writes into a working directory.

The kernel lets go of the lock when the process that holds it ends, however it ends. On a folder that several machines
share it holds only as far as the file system's locks do: let one machine run the nights.
"""

from __future__ import annotations

import fcntl
import functools
import inspect
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.errors import BusyError

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("dynaq")
_held: set[Path] = set()  # by this process, whose flows call one another


def alone(flow: Callable[P, R]) -> Callable[P, R]:
    """Let a flow, whose first arguments are a configuration and overrides, write into its working directory alone.

    Raises:
        BusyError: another run does, and ``night.on_busy`` says refuse.
    """
    signature = inspect.signature(flow)

    @functools.wraps(flow)
    def locked(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        config = load_config(given.arguments["config"], given.arguments["overrides"])
        with _lock(config, flow.__name__):
            return flow(*args, **kwargs)

    return locked


def lock_file(config: Config) -> Path:
    """What whoever writes into the working directory holds locked."""
    return config.work_path / "run.lock"


@contextmanager
def _lock(config: Config, name: str) -> Iterator[None]:
    path = lock_file(config)
    if path in _held:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not _locked(file):
            busy = f"{_holder(path)} writes into {config.work_path}"
            if config.night.on_busy == "refuse":
                raise BusyError(f"{busy}: try again when it has ended, or set night.on_busy to wait")
            log.warning("%s: waiting until it has ended", busy)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{name} (process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC)")
        file.flush()
        _held.add(path)
        try:
            yield
        finally:
            _held.remove(path)
            file.truncate(0)


def _locked(file: IO[str]) -> bool:
    """Lock a file if nobody else holds it for longer than it takes to look whether somebody does."""
    for _ in range(2):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.1)
    return False


def _holder(path: Path) -> str:
    return path.read_text() or "a run that has just begun"
