"""Kill -9 at random moments of a night, retried until it is done, against the night that nobody disturbed.

    python -m tests.bench.kill_trial --kills 30

In turn the flow, one of its workers, MongoDB and the LLM server die. The flow and its workers are what `python -m
flows nightly` starts, MongoDB is the embedded one; the LLM server is a stand-in of the trial's own, which is back after
a second. A night that ended with an error is started again, as a scheduler would. What is compared: every number of
the report, the weights of every checkpoint and of the champion, every label, every experience; and labels paid with
labels stored. A label that was served and is on no account was on its way when its process, or the server, was killed:
it is lost, asked again and paid again, at most ``llm.concurrency`` of them a process and kill. Stages under way save
themselves twice a second here, so that kills meet what is half done; how many had done so is in the table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
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
from flows.servers import prefect_server
from tests.paths import ROOT

VICTIMS = ("flow", "worker", "mongod", "llm")
SMALL = {  # of the demo: minutes, not tens of them
    "market.jobs": 150,
    "market.applicants": 80,
    "pretrain.steps": 100,
    "finetune.budgets": [96],
    "finetune.applicants_per_step": 32,
    "agent.gamma": 0.0,
    "agent.hand_over.pilot": 16,
    "agent.hidden": [32],
    "agent.batch_size": 32,
    "compare.seeds": 5,
    "compare.steps": 6,
    "compare.window": 3,
    "compare.applicants": 30,
    "compare.dial": {"levels": [0.5], "rewards": ["cosine"]},
    "save_every_s": 0.5,
}
TRIES = 5  # nights until one that does not finish is given up
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

    def start(self) -> None:
        command = [sys.executable, "-m", "flows", "nightly", "--config", self.config]
        for key, value in (self.overrides | {"workdir": str(self.workdir)}).items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        self.starts += 1
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

    def finish(self) -> bool:
        """Wait for its end, and start it again where it failed; whether it got there at all."""
        while self.process.wait() != 0:
            if self.starts == TRIES:
                return False
            self.start()
        return True

    def find(self, victim: str) -> int | None:
        """A process of the night; None while there is none of the kind."""
        for pid, parent, command in processes():
            if victim == "mongod" and str(self.workdir / "mongodb" / "db") in command and "--dbpath" in command:
                return pid
            if victim == "flow" and parent == self.process.pid and "flows.run" in command:
                return pid
            if victim == "worker" and "multiprocessing.spawn" in command and parent == self.find("flow"):
                return pid
        return None

    def half_done(self) -> int:
        """Stages that have saved themselves and are not done."""
        return len(list(self.workdir.rglob("*.progress")))

    def outcome(self) -> Outcome:
        settings = load_config(self.config, self.overrides | {"workdir": str(self.workdir)})
        reports = sorted(self.workdir.glob("reports/*/figures.json"))
        manifests = {path.parent.name: path.read_text() for path in self.workdir.glob("checkpoints/*/manifest.json")}
        champion = Registry(settings).champion()
        labels, experiences, account = stored(settings)
        return Outcome(
            figures=reports[-1].read_text(),
            weights={name: json.loads(text)["weights"] for name, text in manifests.items()},
            champion=champion.weights if champion else None,
            labels=labels,
            experiences=experiences,
            account=account,
        )


def processes() -> list[tuple[int, int, str]]:
    """Id, parent and command line of every process."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            found.append((int(directory.name), parent, (directory / "cmdline").read_text().replace("\0", " ")))
        except OSError:  # it has ended
            continue
    return found


def stored(config: Config) -> tuple[dict[str, tuple[float, float, float]], set[tuple[Any, ...]], int]:
    """The labels, the experiences, and how many labels were paid for by all accounts."""
    names = config.mongo.collections
    with open_database(config.mongo, config.work_path) as database:
        labels = {each["_id"]: (each["apply"], each["save"], each["ignore"]) for each in database[names.labels].find()}
        timeless = {"_id": False, "created": False}
        experiences = {tuple(sorted(each.items())) for each in database[names.experiences].find({}, timeless)}
        return labels, experiences, sum(each.get("labels", 0) for each in database[names.spending].find())


def strike(night: Night, llm: LLM, victim: str, after_s: float) -> tuple[float, int] | None:
    """Kill a victim after so many seconds, or when there is one then.

    Returns:
        When, and how many stages were half done and saved then; None where the night was over.
    """
    begun = time.monotonic()
    while night.process.poll() is None:
        if time.monotonic() - begun >= after_s:
            if victim == "llm":
                llm.kill_and_restart()
                return time.monotonic() - begun, night.half_done()
            if pid := night.find(victim):
                os.kill(pid, signal.SIGKILL)
                return time.monotonic() - begun, night.half_done()
        time.sleep(0.02)
    return None


def main() -> None:
    """Print a table and a summary; exits with 1 where a night differs or labels were paid for twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kill_trial", description=__doc__)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--config", help="a night as it is configured there; by default a small one")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    config, overrides = (options.config, {}) if options.config else ("configs/demo.yaml", SMALL)
    moments, root = random.Random(options.seed), Path(tempfile.mkdtemp(prefix="dynaq-kills-"))
    with prefect_server(0, root / "prefect.log") as api:
        environment = {**os.environ, "PREFECT_API_URL": api, "DYNAQ_LLM_MODEL": "rule-sim-v1"}

        def begin(name: str) -> tuple[Night, LLM]:
            llm = LLM()
            night = Night(config, overrides, {**environment, "OPENAI_BASE_URL": llm.url}, root / name)
            night.start()
            return night, llm

        night, llm = begin("undisturbed")
        begun = time.monotonic()
        assert night.process.wait() == 0, (night.workdir / "night-1.txt").read_text()
        whole_s, undisturbed = time.monotonic() - begun, night.outcome()
        print(
            f"undisturbed: {whole_s:.0f} s, {len(undisturbed.weights)} checkpoints, labels: {llm.served()} served,"
            f" {undisturbed.account} on the account, {len(undisturbed.labels)} stored;"
            f" {'a' if undisturbed.champion else 'no'} champion\n\n"
            "| killed | at | half done | done after | starts | against it | labels served, on account, stored |\n"
            "|---|---|---|---|---|---|---|",
            flush=True,
        )
        llm.stop()
        equal, lost, number = 0, 0, 0
        twice = abs(undisturbed.account - len(undisturbed.labels))
        while number < options.kills:
            victim = VICTIMS[number % len(VICTIMS)]
            night, llm = begin(f"{number}-{victim}")
            hit = strike(night, llm, victim, moments.uniform(0, whole_s))
            struck = time.monotonic()
            finished = night.finish()
            if hit is None:  # the night was quicker than the moment; another one then
                shutil.rmtree(night.workdir)
                llm.stop()
                continue
            number += 1
            took_s = time.monotonic() - struck
            found = night.outcome() if finished else None
            other = found.differs(undisturbed) if found else ["not finished"]
            labels = f"{llm.served()}, {found.account}, {len(found.labels)}" if found else ""
            equal += not other
            lost += llm.served() - found.account if found else 0
            twice += abs(found.account - len(found.labels)) if found else 0
            words = "equal" if not other else f"differs in {', '.join(other)}: {night.workdir}"
            print(
                f"| {victim} | {hit[0]:.0f} s | {hit[1]} | {took_s:.0f} s | {night.starts} | {words} | {labels} |",
                flush=True,
            )
            llm.stop()
            if not other:
                shutil.rmtree(night.workdir)
    print(
        f"\n{equal} of {options.kills} nights equal to the undisturbed one; {lost} labels were on their way to a"
        f" process when it or the LLM server was killed: lost, and paid again; {twice} differ between"
        " the accounts and what is stored"
    )
    if good := equal == options.kills and twice == 0:
        shutil.rmtree(root)
    sys.exit(not good)


if __name__ == "__main__":
    main()
