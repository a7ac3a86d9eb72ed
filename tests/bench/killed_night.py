"""A night from the command line that is killed and started again until it is done, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.connection import open_database
from dynaq.processes import death_pact
from dynaq.tracking.registry import Registry
from flows.children import free_port
from tests.paths import ROOT

TRIES = 5  # of a night since it was last struck, until it is given up
SERVED_MS = 20  # by the LLM server, a label: in between, calls are in flight


@dataclass(frozen=True)
class Outcome:
    """What a night has left, and what it has paid.

    Attributes:
        figures: every number of its report.
        weights: checkpoint -> sha256.
        champion: sha256; None where nobody was crowned.
        labels: question -> answer, as stored.
        experiences: what agents heard, but for when.
        account: labels paid for, by our own account.
    """

    figures: str
    weights: dict[str, str]
    champion: str | None
    labels: dict[str, tuple[float, float, float]]
    experiences: set[tuple[Any, ...]]
    account: int

    def differs(self, other: Outcome) -> list[str]:
        """In what."""
        names = ("figures", "weights", "champion", "labels", "experiences")
        return [name for name in names if getattr(self, name) != getattr(other, name)]


class LLM:
    """The stand-in on a port of its own. What a killed one had served is asked a moment before."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self._before = 0
        self.start()

    def start(self) -> None:
        behaviour = json.dumps({"latency_s": SERVED_MS / 1000})
        command = ["-m", "dynaq.llm.rule_sim", "--port", str(self._port), "--behaviour", behaviour]
        self.process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, preexec_fn=death_pact())
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def served(self) -> int:
        """Labels, by all of them."""
        with urlopen(f"{self.url}/stand-in/calls") as reply:
            return self._before + int(json.load(reply)["labels"])

    def kill_and_restart(self) -> None:
        self._before = self.served()
        self.stop()
        time.sleep(1)
        self.start()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Night:
    """A night in a working directory of its own, which goes on until it is done."""

    config: str
    overrides: dict[str, Any]
    environment: dict[str, str]
    workdir: Path
    starts: int = field(default=0, init=False)
    _tries: int = field(default=0, init=False)

    def start(self) -> None:
        command = [sys.executable, "-m", "flows", "nightly", "--config", self.config]
        for key, value in (self.overrides | {"workdir": str(self.workdir)}).items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        self.starts += 1
        self._tries += 1
        self.workdir.mkdir(exist_ok=True)
        with (self.workdir / f"night-{self.starts}.txt").open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=death_pact(signal.SIGTERM),
            )

    def goes_on(self) -> bool:
        """Whether it is under way; one that has failed is started again, as a scheduler would, until it is given up."""
        if self.process.poll() is None:
            return True
        if self.process.returncode == 0 or self._tries == TRIES:
            return False
        self.start()
        return True

    def finish(self) -> bool:
        """Wait for its end; whether it got there at all."""
        while self.goes_on():
            time.sleep(0.1)
        return self.process.returncode == 0

    def strike(self, llm: LLM, victim: str, moment: float) -> int | None:
        """Kill a victim at a moment of the monotonic clock, or when there is one then.

        Returns:
            How many stages were half done and saved then; None where the night was over.
        """
        while self.goes_on():
            if time.monotonic() >= moment:
                half_done = self._half_done()
                if self._kill(llm, victim):
                    self._tries = 1
                    return half_done
            time.sleep(0.02)
        return None

    def _kill(self, llm: LLM, victim: str) -> bool:
        """Whether there was one to kill, and a flow to notice."""
        if self._find("flow") is None:
            return False
        if victim == "llm":
            llm.kill_and_restart()
            return True
        if pid := self._find(victim):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def _find(self, victim: str) -> int | None:
        """A process of the night; None while there is none of the kind."""
        for pid, parent, command in _processes():
            if victim == "mongod" and str(self.workdir / "mongodb" / "db") in command and "--dbpath" in command:
                return pid
            if victim == "flow" and parent == self.process.pid and "flows.run" in command:
                return pid
            if victim == "worker" and "multiprocessing.spawn" in command and parent == self._find("flow"):
                return pid
        return None

    def _half_done(self) -> int:
        """Stages that have saved themselves and are not done."""
        # os.walk passes over a directory that is renamed meanwhile.
        return sum(
            name.endswith(".progress") for _, folders, files in os.walk(self.workdir) for name in folders + files
        )

    def outcome(self) -> Outcome:
        settings = load_config(self.config, self.overrides | {"workdir": str(self.workdir)})
        reports = sorted(self.workdir.glob("reports/*/figures.json"))
        manifests = {path.parent.name: path.read_text() for path in self.workdir.glob("checkpoints/*/manifest.json")}
        champion = Registry(settings).champion()
        labels, experiences, account = _stored(settings)
        return Outcome(
            figures=reports[-1].read_text(),
            weights={name: json.loads(text)["weights"] for name, text in manifests.items()},
            champion=champion.weights if champion else None,
            labels=labels,
            experiences=experiences,
            account=account,
        )


def _processes() -> list[tuple[int, int, str]]:
    """Id, parent and command line of every process."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            found.append((int(directory.name), parent, (directory / "cmdline").read_text().replace("\0", " ")))
        except OSError:  # it has ended
            continue
    return found


def _stored(config: Config) -> tuple[dict[str, tuple[float, float, float]], set[tuple[Any, ...]], int]:
    """The labels, the experiences, and how many labels were paid for by all accounts."""
    names = config.mongo.collections
    with open_database(config.mongo, config.work_path) as database:
        labels = {each["_id"]: (each["apply"], each["save"], each["ignore"]) for each in database[names.labels].find()}
        timeless = {"_id": False, "created": False}
        experiences = {tuple(sorted(each.items())) for each in database[names.experiences].find({}, timeless)}
        return labels, experiences, sum(each.get("labels", 0) for each in database[names.spending].find())
