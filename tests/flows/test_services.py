"""`make services`: what it refuses, and children that are started again; the slow trial is of a real night."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient

from dynaq.errors import InputError
from flows.children import _LONGEST_LOG, Child, answers, free_port
from tests.paths import ROOT
from tests.receiver import Receiver

SERVER = ["http.server", "--bind", "127.0.0.1"]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    port = free_port()
    with Child("pages", [*SERVER, "--directory", str(tmp_path), str(port)], tmp_path / "pages.log", {}, port) as child:
        yield child


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def test_a_child_that_dies_is_started_again_later_each_time(child: Child) -> None:
    said = []
    for _ in range(3):
        os.kill(pid_of(child), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            said += [line for line in [child.revive()] if line]
            if child.process and answers(child.address):
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"it does not answer again: {said}")
    assert [line.partition(";")[2].split(";")[0] for line in said] == [
        f" started again in {each} s" for each in (1, 2, 4)
    ]
    assert said[0].startswith("pages ended with status -9;")


def test_a_log_that_is_too_long_is_cut_also_under_a_server_that_runs(child: Child, tmp_path: Path) -> None:
    log = tmp_path / "pages.log"
    for length in (1, 2):
        os.truncate(log, _LONGEST_LOG + length)
        assert child.revive() is None
        assert answers(child.address)
        assert (tmp_path / "pages.log.1").stat().st_size == _LONGEST_LOG + length
        assert b"GET / " in log.read_bytes()[:200]  # at its beginning, with no hole before


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} is taken"):
            Child("pages", SERVER, tmp_path / "pages.log", {}, port).start()


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        ({"DYNAQ_MLFLOW_PORT": "web"}, [], "DYNAQ_MLFLOW_PORT is 'web', it must be a port from 1 to 65535"),
        ({}, ["--set", "agent.gamma=0"], "services takes no --set"),
    ],
)
def test_what_is_refused_is_said_in_one_line(
    environment: dict[str, str], arguments: list[str], expected: str, tmp_path: Path
) -> None:
    config = tmp_path / "night.yaml"
    config.write_text(f"extends: {ROOT / 'configs' / 'base.yaml'}\nworkdir: {tmp_path / 'work'}\n")
    command = [sys.executable, "-m", "flows", "services", "--config", str(config), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [done.stderr.strip()]
    assert expected in done.stderr


class Services:
    """`make services` with a night each minute whose collections are empty, telling a receiver of it."""

    def __init__(self, directory: Path, receiver: Receiver) -> None:
        self.workdir, self.receiver, self._printed = directory / "work", receiver, directory / "printed.txt"
        ports = self.prefect, self.mlflow = free_port(), free_port()
        config = directory / "night.yaml"
        config.write_text(
            f"extends: {ROOT / 'configs' / 'base.yaml'}\nworkdir: {self.workdir}\n"
            "night: {cron: '* * * * *', timezone: Europe/Berlin}\n"
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {"DYNAQ_NOTICE_URL": receiver.address}
        environment |= dict(zip(("DYNAQ_PREFECT_PORT", "DYNAQ_MLFLOW_PORT"), map(str, ports), strict=True))
        command = [sys.executable, "-m", "flows", "services", "--config", str(config)]
        with self._printed.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)

    def printed(self) -> str:
        return self._printed.read_text()

    def await_notice(self, words: str) -> tuple[datetime, dict[str, Any]]:
        """When the first notice with these words arrived, and the flow run that it tells of."""
        deadline = time.monotonic() + 500
        while not any(words in text for text in self.receiver.got):
            assert self.process.poll() is None, self.printed()
            assert time.monotonic() < deadline, self.printed()
            time.sleep(0.1)
        at, text = next(pair for pair in zip(self.receiver.at, self.receiver.got, strict=True) if words in pair[1])
        run = requests.get(f"http://127.0.0.1:{self.prefect}/api/flow_runs/{text.rpartition('/')[2]}", timeout=10)
        return at, run.json()

    def await_process_of_a_night(self) -> int:
        """The process id of the next night that has begun."""
        wanted = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            runs = requests.post(
                f"http://127.0.0.1:{self.prefect}/api/flow_runs/filter", json=wanted, timeout=10
            ).json()
            for path in Path("/proc").glob("[0-9]*/environ"):
                with suppress(OSError):
                    environment = path.read_bytes()
                    if any(f"PREFECT__FLOW_RUN_ID={run['id']}".encode() in environment for run in runs):
                        return int(path.parent.name)
            time.sleep(0.5)
        pytest.fail(self.printed())


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_night_by_cron_fails_another_is_killed_and_both_are_told(tmp_path: Path) -> None:
    with Receiver() as receiver:
        services = Services(tmp_path, receiver)
        try:
            told, failed = services.await_notice(" Failed: InputError: collection candidates_embeddings")
            with (services.workdir / "run.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # the next night waits
                os.kill(services.await_process_of_a_night(), signal.SIGKILL)
                killed = datetime.now(UTC)
                told_of_the_kill, _ = services.await_notice(" Crashed: Process exited with status code: -9")
            services.await_notice("-again Failed: InputError")  # the killed one, once more
            experiment = MlflowClient(f"http://127.0.0.1:{services.mlflow}").get_experiment_by_name("dynaq")
            services.process.terminate()
            assert services.process.wait(timeout=200) == 0, services.printed()
        finally:
            services.process.kill()
            services.process.wait()
    planned, began, ended = (
        datetime.fromisoformat(failed[f"{name}_time"]) for name in ("expected_start", "start", "end")
    )
    print(f"\nbegan {began - planned} after its time, ended {ended - began} later, told {told - ended} later")
    print(f"told {told_of_the_kill - killed} after a kill")
    assert planned.second == 0
    assert failed["run_count"] == 1  # an error of input is not tried again
    assert experiment is not None
    assert experiment.artifact_location.startswith(f"file://{services.workdir}/mlartifacts/")  # made by the server
    assert not [port for port in (services.prefect, services.mlflow) if answers(f"http://127.0.0.1:{port}/")]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and b"S3ntinel" in path.read_bytes()]
    assert files == []
