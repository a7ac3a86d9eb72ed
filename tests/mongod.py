"""A replica set of one that belongs to a test, which kills it, restarts it, and makes its primary step down."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from dynaq.data.embedded import find_mongod
from flows.children import free_port


class Mongod:
    """On a port of its own; a context manager that starts it."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.uri = f"mongodb://127.0.0.1:{self.port}/?replicaSet=test"
        self._directory = directory
        self.client = MongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{self.port}/?directConnection=true")

    def __enter__(self) -> Mongod:
        self._directory.mkdir()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.kill()

    def start(self) -> None:
        """Start, or start again, and wait until it is the primary."""
        command = [find_mongod(), "--dbpath", str(self._directory), "--port", str(self.port), "--replSet", "test"]
        command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        while True:
            with suppress(PyMongoError):
                if self.client.admin.command("hello")["isWritablePrimary"]:
                    return
            with suppress(PyMongoError):
                members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
                self.client.admin.command("replSetInitiate", {"_id": "test", "members": members})
            time.sleep(0.05)

    def kill(self) -> None:
        """With signal 9."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Kill it, and have it back after a second."""
        self.kill()
        time.sleep(1)
        self.start()

    def step_down(self) -> None:
        """No primary for two seconds."""
        self.client.admin.command("replSetStepDown", 2, force=True, secondaryCatchUpPeriodSecs=0)
