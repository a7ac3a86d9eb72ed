"""Kill -9 at random moments of a night, retried until it is done, against the night that nobody disturbed.

    python -m tests.bench.kill_trial --kills 30
    python -m tests.bench.kill_trial --kills 30 --a-night 8 --config configs/demo.yaml

In turn the flow, one of its workers, MongoDB and the LLM server die. The flow and its workers are what `python -m
flows nightly` starts, MongoDB is the embedded one; the LLM server is a stand-in of the trial's own, which is back after
a second. A night that ended with an error is started again, as a scheduler would. What is compared: every number of
the report, the weights of every checkpoint and of the champion, every label, every experience; and labels paid with
labels stored. A label that was served and is on no account was on its way when its process, or the server, was killed:
it is lost, asked again and paid again, at most ``llm.concurrency`` of them a process and kill. Stages under way save
themselves twice a second in the small night, so that kills meet what is half done; the table says how many had.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.servers import prefect_server
from tests.bench.killed_night import LLM, Night, Outcome

VICTIMS = ("flow", "worker", "mongod", "llm")
AGAIN_S = 30  # longer that a night takes for each kill, about: moments are drawn up to its end
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


@dataclass
class Trial:
    """Nights of one configuration that are killed, each compared with the first, which is not.

    Attributes:
        config, overrides: of the nights.
        environment: of their processes.
        root: where their working directories lie.
        moments: draws when they are struck.
        kills, nights, equal: so far.
        lost: labels that were served, and are on no account.
        twice: differences between accounts and what is stored.
    """

    config: str
    overrides: dict[str, Any]
    environment: dict[str, str]
    root: Path
    moments: random.Random
    kills: int = field(default=0, init=False)
    nights: int = field(default=0, init=False)
    equal: int = field(default=0, init=False)
    lost: int = field(default=0, init=False)
    twice: int = field(default=0, init=False)
    _whole_s: float = field(default=0.0, init=False)
    _expected: Outcome = field(init=False)

    def undisturbed(self) -> None:
        """What a night gives that nobody strikes, and how long it takes."""
        night, llm = self._begin("undisturbed")
        begun = time.monotonic()
        assert night.process.wait() == 0, (night.workdir / "night-1.txt").read_text()
        self._whole_s, self._expected = time.monotonic() - begun, night.outcome()
        self.twice += abs(self._expected.account - len(self._expected.labels))
        print(
            f"undisturbed: {self._whole_s:.0f} s, {len(self._expected.weights)} checkpoints, labels:"
            f" {llm.served()} served, {self._expected.account} on the account, {len(self._expected.labels)} stored;"
            f" {'a' if self._expected.champion else 'no'} champion\n\n"
            "| killed at s (half done then) | done after | starts | against it | labels served, on account, stored |\n"
            "|---|---|---|---|---|",
            flush=True,
        )
        llm.stop()

    def strike(self, kills: int) -> bool:
        """One more night, struck so many times, or until it is over; whether it got to its end."""
        self.nights += 1
        night, llm = self._begin(f"night-{self.nights}")
        begun, struck = time.monotonic(), []
        longest_s = self._whole_s + (kills - 1) * AGAIN_S
        for moment in sorted(self.moments.uniform(0, longest_s) for _ in range(kills)):
            victim = VICTIMS[self.kills % len(VICTIMS)]
            half_done = night.strike(llm, victim, begun + moment)
            if half_done is None:  # the night was quicker than the moment: another one then
                break
            self.kills += 1
            struck.append(f"{victim} {time.monotonic() - begun:.0f} ({half_done})")
        finished, took_s = night.finish(), time.monotonic() - begun
        found = night.outcome() if finished else None
        other = found.differs(self._expected) if found else ["not finished"]
        labels = self._count(found, llm.served()) if found else ""
        words = "equal" if not other else f"differs in {', '.join(other)}: {night.workdir}"
        print(f"| {', '.join(struck)} | {took_s:.0f} s | {night.starts} | {words} | {labels} |", flush=True)
        llm.stop()
        if not other:
            self.equal += 1
            shutil.rmtree(night.workdir)
        return finished

    def _count(self, found: Outcome, served: int) -> str:
        self.lost += served - found.account
        self.twice += abs(found.account - len(found.labels))
        return f"{served}, {found.account}, {len(found.labels)}"

    def _begin(self, name: str) -> tuple[Night, LLM]:
        llm = LLM()
        night = Night(self.config, self.overrides, {**self.environment, "OPENAI_BASE_URL": llm.url}, self.root / name)
        night.start()
        return night, llm


def main() -> None:
    """Print a table and a summary; exits with 1 where a night differs or labels were paid for twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kill_trial", description=__doc__)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--a-night", type=int, default=1, help="kills of one night, until another one begins")
    parser.add_argument("--config", help="a night as it is configured there; by default a small one")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    if min(options.kills, options.a_night) < 1:
        parser.error("--kills and --a-night are 1 or more")
    config, overrides = (options.config, {}) if options.config else ("configs/demo.yaml", SMALL)
    root = Path(tempfile.mkdtemp(prefix="dynaq-kills-"))
    with prefect_server(0, root / "prefect.log") as api:
        environment = {**os.environ, "PREFECT_API_URL": api, "DYNAQ_LLM_MODEL": "rule-sim-v1"}
        trial = Trial(config, overrides, environment, root, random.Random(options.seed))
        trial.undisturbed()
        while trial.kills < options.kills and trial.strike(min(options.a_night, options.kills - trial.kills)):
            pass
    print(
        f"\n{trial.kills} kills: {trial.equal} of {trial.nights} nights equal to the undisturbed one; {trial.lost}"
        " labels were on their way to a process when it or the LLM server was killed: lost, and paid again;"
        f" {trial.twice} differ between the accounts and what is stored"
    )
    if good := trial.equal == trial.nights and trial.twice == 0:
        shutil.rmtree(root)
    sys.exit(not good)


if __name__ == "__main__":
    main()
