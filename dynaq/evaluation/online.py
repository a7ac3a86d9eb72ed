"""One contestant in one market: it starts as it was trained, meets held-out applicants, and keeps learning.

For one seed all contestants meet the same applicants, candidates and luck, so their differences are paired. The
reward is +1 for an interaction and 0 for none, which none was trained on. What is random in a contestant besides
(exploration, batches) follows its seed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynaq.agents.learner import Learner
from dynaq.agents.stages import json_curves, one_thread, progress_of
from dynaq.agents.trainer import learn
from dynaq.artifacts import code_version, finished, inputs_key, publish, readable
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot, open_snapshot
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.dial import agreement, dialled
from dynaq.evaluation.market.environment import OnlineEnvironment
from dynaq.evaluation.market.hidden import HiddenUtilities
from dynaq.evaluation.market.market import Market
from dynaq.evaluation.market.traits import MarketTraits, Side, read_traits
from dynaq.evaluation.market.world import OWN, World
from dynaq.evaluation.panel import Panel, candidates_without_repeats, read_panel
from dynaq.evaluation.starts import Start, starting
from dynaq.evaluation.study.profile import profile

_ARRAYS = ("rewards", "chances", "best", "knows", "knows_random", "knows_best")
_READ = 20_000  # texts of a side, beside the panel's, that a market is made of at most


@dataclass(frozen=True)
class OnlineRun:
    """What one contestant did in one market.

    Attributes:
        contestant, world, seed: who and where.
        rewards: float32 [steps, A], mean answer over the slate.
        chances: float32 [steps, A], its expectation.
        best: float32 [steps, A], the expectation of the best slate of the same candidates.
        knows, knows_random, knows_best: float32 [steps, A], before the learning of a step: the expectation of what it
            would show at rest (market/environment.py), of a random and of the best slate of the same candidates; in a
            dialled market float32 [late steps, A].
        ndcg: float32 [2, A], NDCG@10 over the panel's jobs at launch and at the end; empty in a dialled market.
        curves: training curves while online, by metric.
        before: labels, tokens and gradient steps before launch.
        provenance: rewards it had been trained on.
        profile: see profile.py; at launch and at the end; empty in a dialled market.
        agreement: correlation of the market's utilities with each training reward.
        jobs: of the market.
        start: name of the checkpoint that it started from, or whose labels it learned from.
    """

    contestant: Contestant
    world: World
    seed: int
    rewards: NDArray[np.float32]
    chances: NDArray[np.float32]
    best: NDArray[np.float32]
    knows: NDArray[np.float32]
    knows_random: NDArray[np.float32]
    knows_best: NDArray[np.float32]
    ndcg: NDArray[np.float32]
    curves: dict[str, list[float | None]]
    before: dict[str, int]
    provenance: list[str]
    profile: dict[str, Any]
    agreement: dict[str, float]
    jobs: int
    start: str | None


def run_online(
    config: Config, snapshot: Snapshot, panel: Path, contestant: Contestant, world: World, seed: int, start: Path | None
) -> Path:
    """Let a contestant learn online; returns its result directory, which is reused if it is there.

    Args:
        config, snapshot, panel: where.
        contestant, world, seed: who, in which market.
        start: checkpoint that it starts from, or whose labels it learns from; None for whoever needs none.

    Raises:
        InputError: its scores are no finite numbers, or too few jobs are held out.
        ArtifactError: its checkpoint cannot be used.
    """
    target = online_path(config, snapshot, panel, contestant, world, seed, start)
    if finished(target, config.work_path):
        return target
    saved = progress_of(config, target)
    read = read_panel(panel)
    market, chosen, utilities = open_market(config, snapshot, read, world, seed)
    online = config.compare
    n = candidates_without_repeats(config, len(read.jobs))
    with one_thread():
        environment = OnlineEnvironment(market, read.applicants[chosen], read.jobs, n, config.agent.slate)
        begun = starting(config, snapshot, read, contestant, seed, start, environment)
        learner: Learner = begun.learner
        environment.asked, environment.who = learner, f"{contestant.name}, seed {seed},"
        # It takes a third of a run; of a dialled market only the late steps are looked at.
        environment.asked_from = 0 if world.towards == OWN else online.steps - online.late_steps
        rewards = {name: values[chosen] for name, values in read.rewards.items()}
        profiles = {"launch": profile(learner, environment, rewards)} if world.towards == OWN else {}
        curves = learn(
            learner,
            environment,
            online.steps,
            online.updates_per_step,
            lambda _: online.epsilon,
            seed,
            saved,
        )
        if profiles:  # a dialled market is asked for rewards only
            profiles["end"] = profile(learner, environment, rewards)
    agreements = {name: agreement(utilities, values) for name, values in rewards.items()}
    _write(target, contestant, world, seed, begun, environment, json_curves(curves), profiles, agreements)
    saved.forget()
    return target


def open_market(
    config: Config, snapshot: Snapshot, panel: Panel, world: World, seed: int
) -> tuple[Market, NDArray[np.int64], NDArray[np.float32]]:
    """A seed's market: itself, the rows of the panel that come to it int64 [A], and its utilities float32 [A, J]."""
    chance = np.random.default_rng([config.seed, seed])
    chosen = np.sort(chance.permutation(len(panel.applicants))[: config.compare.applicants])
    hidden, people, jobs = _hidden(snapshot, panel, chosen, seed)
    rewards = {name: values[chosen] for name, values in panel.rewards.items()}
    utilities = hidden if world.towards == OWN else dialled(hidden, rewards, world.towards, world.level)
    return Market(utilities, people, jobs, seed), chosen, utilities


def base_chances(config: Config, snapshot: Snapshot, panel: Panel, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
    """Chances of the evaluator's own market for rows of the panel, before anybody is tired: [len(chosen), J]."""
    return Market(*_hidden(snapshot, panel, chosen, config.seed), config.seed).base_chances()


def _hidden(
    snapshot: Snapshot, panel: Panel, chosen: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float32], Side, Side]:
    """Hidden utilities of rows of the panel, and both sides of that market."""
    traits, applicants, jobs = _traits(snapshot.path, panel.path)
    utilities = HiddenUtilities(traits, seed).matrix(applicants[chosen], jobs)
    return utilities, _rows(traits.applicants, applicants[chosen]), _rows(traits.jobs, jobs)


@lru_cache(maxsize=1)
def _traits(snapshot: Path, panel: Path) -> tuple[MarketTraits, NDArray[np.int64], NDArray[np.int64]]:
    """Traits that a market is made of, and which of them are the panel's applicants and jobs.

    Of a large snapshot a sample stands for all the others. It is the slow part of a market, and the same for all
    contestants and seeds: read once a process.
    """
    opened, read = open_snapshot(snapshot), read_panel(panel)
    applicants, jobs = opened.applicant_texts, opened.job_texts
    a, j = _sample(len(applicants), read.applicants), _sample(len(jobs), read.jobs)
    traits = read_traits(
        [applicants[row] for row in a],
        [jobs[row] for row in j],
        [opened.applicant_ids[row] for row in a],
        [opened.job_ids[row] for row in j],
    )
    return traits, np.searchsorted(a, read.applicants), np.searchsorted(j, read.jobs)


def _sample(count: int, needed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows to read the texts of, ascending: all, or of many every so manyth and those that are needed."""
    return np.union1d(np.arange(0, count, -(-count // _READ)), needed)


def _rows(side: Side, rows: NDArray[np.int64]) -> Side:
    return Side(**{name: values[rows] for name, values in vars(side).items()})


def online_path(
    config: Config, snapshot: Snapshot, panel: Path, contestant: Contestant, world: World, seed: int, start: Path | None
) -> Path:
    """Where the results of a run lie, made or not yet; arguments as in `run_online`."""
    online = {"applicants", "steps", "updates_per_step", "epsilon", "late_share"}
    key = inputs_key(
        snapshot=snapshot.manifest.digest,
        panel=panel.name,  # that of a fresh run is another
        agent=config.agent.model_dump() | {"gamma": contestant.gamma},
        finetune=config.finetune.model_dump() if contestant.labels else None,
        online=config.compare.model_dump(include=online),
        start=start.name if start else None,
        seed=seed,
        code=code_version(),
    )
    return config.work_path / "online" / world.name / f"{contestant.slug}-s{seed}-{key}"


def _write(
    target: Path,
    contestant: Contestant,
    world: World,
    seed: int,
    begun: Start,
    environment: OnlineEnvironment,
    curves: dict[str, list[float | None]],
    profiles: dict[str, dict[str, Any]],
    agreements: dict[str, float],
) -> None:
    ndcg = np.array([each.pop("ndcg") for each in profiles.values()], dtype=np.float32)
    record = {
        "contestant": asdict(contestant),
        "world": asdict(world),
        "seed": seed,
        "curves": curves,
        "before": begun.before,
        "provenance": begun.provenance,
        "profile": profiles,
        "agreement": agreements,
        "jobs": len(environment.market.looks),
        "start": begun.checkpoint,
    }
    kept = environment.record()
    with publish(target) as directory:
        np.savez_compressed(directory / "run.npz", ndcg=ndcg, **{name: kept[name] for name in _ARRAYS})  # type: ignore[arg-type]
        (directory / "run.json").write_text(json.dumps(record, allow_nan=False) + "\n")


def read_online(path: Path) -> OnlineRun:
    """Read what ``run_online`` wrote.

    Raises:
        ArtifactError: the directory is missing or damaged.
    """
    with readable("online run", path):
        record: dict[str, Any] = json.loads((path / "run.json").read_text())
        with (path / "run.npz").open("rb") as file, np.load(file) as arrays:
            named = {name: arrays[name] for name in (*_ARRAYS, "ndcg")}
        contestant, world = Contestant(**record.pop("contestant")), World(**record.pop("world"))
        return OnlineRun(contestant=contestant, world=world, **record, **named)
