"""The keeper of an embedded mongod: ``python -m dynaq.data.mongod_keeper <directory> <mongod> <lock fd>``.

It detaches itself, runs mongod as a one-node replica set on loopback (majority writes then mean what they mean
in production), and stops it when no process has held ``clients.lock`` for a few seconds. Until the server
answers, standard error stays open and takes the reason why it does not.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from dynaq.data.embedded import CLIENTS_LOCK, LOG_FILE, START_S, URI_FILE, try_lock
from dynaq.disk import file_system
from dynaq.processes import death_pact

_GRACE_S = 3.0  # stages that follow one another do not restart the server
_POLL_S = 0.5
_STOP_S = 30.0
_PORT_FILE = "port"
_ADDRESS_IN_USE = 48  # mongod's exit code
_NOT_YET_INITIALIZED = 94

# Small: it shares a machine with training. Preallocated journals alone would take 300 MB of disk a server. A cache
# of 0.25 GB takes single documents up to 8 MB; ours have some kB.
_OPTIONS = [
    *("--bind_ip", "127.0.0.1", "--nounixsocket"),
    *("--replSet", "dynaq", "--oplogSize", "64"),
    *("--wiredTigerCacheSizeGB", "0.25"),
    *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)"),
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
]


def main() -> None:
    """Detach, then keep the server until nobody uses it; exits with one line if it does not start."""
    directory, binary, lock = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if os.fork():
        os._exit(0)  # so that the keeper is nobody's child, and never the zombie of a long-lived starter
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (directory / CLIENTS_LOCK).open("a+b") as clients:
        mongod, port = _launch(directory, binary, lock)
        uri = f"mongodb://127.0.0.1:{port}/?directConnection=true"
        try:
            if not _becomes_primary(mongod, port, uri):
                sys.exit(_complaint(mongod, directory / LOG_FILE))
            _write(directory / _PORT_FILE, str(port))
            _write(directory / URI_FILE, uri)
            _let_go_of_starter()
            _wait_until_unused(mongod, directory, clients)
        finally:
            # Still under the lock of the clients: a process that comes now waits, then starts a new server.
            if _is_in_place(directory, clients):
                (directory / URI_FILE).unlink(missing_ok=True)
                _stop(mongod)
            else:  # a clean stop would write a checkpoint, by path, over the files of the next server
                mongod.kill()
                mongod.wait()


def _launch(directory: Path, binary: str, lock: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start mongod, on the port it had last time if that is free, and wait until it listens."""
    (directory / "db").mkdir(exist_ok=True)
    log_path = directory / LOG_FILE
    for wanted in (_last_port(directory), 0, 0):  # a port that was free may be taken while mongod starts
        port = _free_port(wanted)
        command = [binary, "--dbpath", str(directory / "db"), "--port", str(port), *_OPTIONS]
        with log_path.open("wb") as log:
            mongod = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                preexec_fn=death_pact(),  # SIGKILL cannot hang, and the journal brings back durable writes
            )
        if _listens(mongod, log_path):
            return mongod, port
        if mongod.returncode != _ADDRESS_IN_USE:
            break
    sys.exit(_complaint(mongod, log_path))


def _last_port(directory: Path) -> int:
    try:
        return int((directory / _PORT_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def _free_port(wanted: int) -> int:
    """The wanted port if mongod could listen on it, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as mongod does
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    sys.exit("there is no free port on 127.0.0.1")


def _listens(mongod: subprocess.Popen[bytes], log_path: Path) -> bool:
    """Wait until this very mongod says so: another one may answer on a port that was just lost."""
    deadline = time.monotonic() + START_S
    while mongod.poll() is None and time.monotonic() < deadline:
        if b"Waiting for connections" in log_path.read_bytes():
            return True
        time.sleep(0.05)
    return False


def _becomes_primary(mongod: subprocess.Popen[bytes], port: int, uri: str) -> bool:
    deadline = time.monotonic() + START_S
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=1000) as client:
        while mongod.poll() is None and time.monotonic() < deadline:
            with suppress(PyMongoError):  # a node that is still loading or changing its set is asked again
                if client.admin.command("hello")["isWritablePrimary"]:
                    return True
                _configure_set(client, f"127.0.0.1:{port}")
            time.sleep(0.02)
    return False


def _configure_set(client: MongoClient[dict[str, Any]], host: str) -> None:
    """The set remembers its only member by address, which is another one if the port had to change."""
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code == _NOT_YET_INITIALIZED:
            config = {"_id": "dynaq", "members": [{"_id": 0, "host": host}]}
            client.admin.command("replSetInitiate", config)
        return
    if config["members"][0]["host"] != host:
        config["members"][0]["host"] = host
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)


def _let_go_of_starter() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _is_in_place(directory: Path, clients: IO[Any]) -> bool:
    """Whether the directory is still the one that was started in, not deleted or made anew."""
    try:
        return os.path.samestat(os.stat(directory / CLIENTS_LOCK), os.fstat(clients.fileno()))
    except FileNotFoundError:
        return False


def _wait_until_unused(mongod: subprocess.Popen[bytes], directory: Path, clients: IO[Any]) -> None:
    """Return with the clients' lock after the grace period, or without it if mongod ended or its files are gone."""
    idle_since = None
    while mongod.poll() is None and _is_in_place(directory, clients):
        if not try_lock(clients):
            idle_since = None
        elif idle_since is None:
            idle_since = time.monotonic()
            fcntl.flock(clients, fcntl.LOCK_UN)
        elif time.monotonic() - idle_since >= _GRACE_S:
            return
        else:
            fcntl.flock(clients, fcntl.LOCK_UN)
        with suppress(subprocess.TimeoutExpired):
            mongod.wait(_POLL_S)


def _stop(mongod: subprocess.Popen[bytes]) -> None:
    mongod.terminate()
    try:
        mongod.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        mongod.kill()
        mongod.wait()


def _complaint(mongod: subprocess.Popen[bytes], log_path: Path) -> str:
    """Why mongod is not up: the first error in its log, in its own words."""
    if mongod.poll() is None:
        _stop(mongod)
        return f"it was not ready within {START_S:g} s"
    log = log_path.read_text(errors="replace")
    if "No space left" in log or shutil.disk_usage(log_path.parent).free < 2**20:  # then the log is cut short too
        return f"there is no room: {file_system(log_path.parent)}; make room there, or set workdir to another one"
    for line in log.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            return line  # the command line parser speaks plainly
        if record["s"] in ("E", "F"):
            return _reason(record)
    return f"it ended with code {mongod.returncode}"


def _reason(record: dict[str, Any]) -> str:
    attributes = record.get("attr", {})
    match attributes:
        case {"message": {"msg": message, "error_str": kind}}:  # from the storage engine
            return f"{message}: {kind}"
        case {"error": {"errmsg": message}} | {"error": str(message)} | {"message": str(message)}:
            return str(message)
    return str(record["msg"]).strip()


def _write(path: Path, text: str) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(text)
    aside.replace(path)


if __name__ == "__main__":
    main()
