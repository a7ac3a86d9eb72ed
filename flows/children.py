"""A program beside us: started, asked whether it answers, started again when it dies, stopped with its children."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Self

from dynaq.errors import InputError, TransientError
from dynaq.processes import death_pact

_START_S = 240.0  # a busy machine takes its time
_STEADY_S = 600.0  # who has run for so long is started again at once when it dies
_LONGEST_BACK_OFF_S = 60.0
_LONGEST_LOG = 50_000_000  # bytes


class Child:
    """A Python module that runs until it is stopped, its output in a log.

    Args:
        name: what messages call it.
        module: and its arguments.
        log: file that is appended to; what is too long is moved to a second one, PATH.1.
        environment: what it sees beside our own environment; what holds a secret belongs here, `ps` shows arguments.
        port: where it listens on loopback; 0: nowhere.
        health: path that answers a GET when it is ready.
    """

    def __init__(
        self,
        name: str,
        module: list[str],
        log: Path,
        environment: dict[str, str],
        port: int = 0,
        health: str = "",
    ) -> None:
        self.name, self.address = name, f"http://127.0.0.1:{port}"
        self._command, self._environment, self._log = [sys.executable, "-m", *module], environment, log
        self._port, self._health = port, health
        self.process: subprocess.Popen[bytes] | None = None
        self._started, self._back_off, self._again_at = 0.0, 0.0, 0.0

    def start(self) -> None:
        """Start it.

        Raises:
            InputError: its port is taken.
        """
        if self._port and not _is_free(self._port):
            raise InputError(f"port {self._port} is taken: stop what listens there, or choose another port")
        self._launch()

    def wait_until_ready(self) -> None:
        """Wait until it answers.

        Raises:
            TransientError: it ended, or took too long.
        """
        deadline = time.monotonic() + _START_S
        while not answers(self.address + self._health):
            if not self._lives() or time.monotonic() > deadline:
                raise TransientError(f"{self.name} did not start; its log is {self._log}")
            time.sleep(0.3)

    def revive(self) -> str | None:
        """Start it again if it has died, sooner the longer it had run; what to say of it, if anything."""
        self._cut_log()
        if self.process is None:  # it is to be started again
            if time.monotonic() >= self._again_at:
                self._launch()
            return None
        if self._lives():
            return None
        status = self.process.returncode
        self._signal(signal.SIGKILL)  # what it started and left behind holds its port
        self.process = None
        steady = time.monotonic() - self._started > _STEADY_S
        self._back_off = 1.0 if steady or not self._back_off else min(2 * self._back_off, _LONGEST_BACK_OFF_S)
        self._again_at = time.monotonic() + self._back_off
        return f"{self.name} ended with status {status}; started again in {self._back_off:g} s; its log is {self._log}"

    def stop(self) -> None:
        """End it in order, or by force when that takes too long."""
        if self.process is None:
            return
        for number, patience_s in ((signal.SIGTERM, 45.0), (signal.SIGKILL, 10.0)):
            self._signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
                return

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        try:
            self.start()
            self.wait_until_ready()
        except BaseException:  # Ctrl-C too: nobody else would stop it
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def _cut_log(self) -> None:
        with suppress(OSError):  # a full disk ends no server
            if self._log.stat().st_size > _LONGEST_LOG:
                shutil.copyfile(self._log, f"{self._log}.1")
                os.truncate(self._log, 0)  # whoever appends to it goes on at its beginning

    def _launch(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._cut_log()
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment},
                start_new_session=True,  # Ctrl-C is for us; it and what it starts are stopped by us
                preexec_fn=death_pact(signal.SIGTERM),
            )
        self._started = time.monotonic()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _lives(self) -> bool:
        return self.process is not None and self.process.poll() is None


def answers(address: str) -> bool:
    """Whether a server answers a GET at this address with success."""
    try:
        with urllib.request.urlopen(address, timeout=2) as response:  # noqa: S310 - loopback http only
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
