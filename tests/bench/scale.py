"""Catalogues of growing size through every stage: seconds, and the most memory beside the page cache.

    python -m tests.bench.scale --jobs 10000 100000 1000000 --workdir FOLDER     (20 GB of disk for a million)

Applicants stay 2,000; a job has two vectors of 384 numbers and a text of 40 words. Vectors are random mixtures of 200
trades, so this says what stages cost, nothing about recommendations. Each stage runs in a process of its own.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dynaq.agents import stages
from dynaq.agents.arms import Arm
from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.connection import open_database
from dynaq.data.extract import extract_snapshot
from dynaq.data.snapshot import latest_snapshot, open_snapshot
from dynaq.data.vectors import encode_vector
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.market.world import OWN, World
from dynaq.evaluation.online import run_online
from dynaq.evaluation.panel import make_panel
from dynaq.evaluation.similarity import similarity_reached
from dynaq.llm.rule_sim.process import rule_sim_server
from dynaq.mdp.features import FeatureSpace
from tasks.labelling import today
from tasks.train import finetune_arm
from tests.paths import BASE_CONFIG

APPLICANTS, TRADES, WORDS, D = 2000, 200, 40, 384
_BATCH = 2000
ARM = Arm("cosine", 0.3, 0)


def configured(workdir: Path, jobs: int) -> Config:
    mongo = {"mongo.database": f"scale_{jobs}", "mongo.job_vectors": {"title": "title", "skills": "skills"}}
    mongo |= {"mongo.applicant_vectors": {"hard_skills": "hard_skills", "soft_skills": "soft_skills"}}
    extract: dict[str, Any] = {"extract.job_fields": ["title", "skills"]}
    extract |= {"extract.applicant_fields": ["hard_skills", "soft_skills"]}
    extract |= {"extract.cosine_pairs": [["hard_skills", "title"], ["soft_skills", "skills"]]}
    extract |= {"extract.job_text": {"title": "title"}, "extract.applicant_text": {"hard_skills": "hard_skills"}}
    return load_config(BASE_CONFIG, {"workdir": str(workdir / str(jobs)), **mongo, **extract})


def fill(config: Config, jobs: int) -> None:
    """Write the market to MongoDB."""
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(TRADES, 2 * D)).astype(np.float32)
    names = config.mongo.collections
    sides = (
        (names.applicant_embeddings, names.applicants, config.mongo.applicant_id, ("hard_skills", "soft_skills")),
        (names.job_embeddings, names.jobs, config.mongo.job_id, ("title", "skills")),
    )
    with open_database(config.mongo, config.work_path) as database:
        for (vectors, texts, identifier, fields), count in zip(sides, (APPLICANTS, jobs), strict=True):
            database[vectors].drop()
            database[texts].drop()
            database[vectors].create_index(identifier, unique=True)
            for rows in batches(count):
                trades = chance.integers(TRADES, size=len(rows))
                drawn = centres[trades] + chance.normal(size=(len(rows), 2 * D)).astype(np.float32)
                words = [" ".join(f"w{trade}x{n}" for n in chance.integers(300, size=WORDS)) for trade in trades]
                database[vectors].insert_many(
                    {identifier: f"{row:07}", "encoder": "none", "text_hashes": {"title": f"{row}"}}
                    | {field: encode_vector(part) for field, part in zip(fields, np.split(vector, 2), strict=True)}
                    for row, vector in zip(rows, drawn, strict=True)
                )
                label = fields[0]
                database[texts].insert_many(
                    {"_id": f"{row:07}", label: text, "content_hash": f"{row}"}
                    for row, text in zip(rows, words, strict=True)
                )


def batches(count: int) -> Iterator[range]:
    return (range(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH))


def extract(config: Config) -> None:
    with open_database(config.mongo, config.work_path) as database:
        extract_snapshot(database, config.mongo, config.extract, config.work_path / "snapshots")


def extract_again(config: Config) -> None:
    """The next night, on which nothing has changed."""
    extract(config)


def scaled(config: Config) -> None:
    FeatureSpace.of(_snapshot(config))


def split(config: Config) -> None:
    stages.split_of(config, _snapshot(config))


def pretrain(config: Config) -> None:
    stages.pretrain(config, _snapshot(config), ARM)


def finetune(config: Config) -> None:
    """The pre-trained agent learns on from labels of a real server, the stand-in."""
    with rule_sim_server() as server:
        finetune_arm.fn(config, _snapshot(config).path, Arm("hybrid", ARM.gamma, ARM.seed), server, 1.0, today())


def similarity(config: Config) -> None:
    snapshot = _snapshot(config)
    similarity_reached(config, snapshot, ARM, stages.pretrained_path(config, snapshot, ARM))


def panel(config: Config) -> None:
    make_panel(config, _snapshot(config), None, {})


def online(config: Config) -> None:
    """The warm start, and the controls that look at the whole catalogue."""
    snapshot = _snapshot(config)
    drawn = make_panel(config, snapshot, None, {})
    start = stages.pretrained_path(config, snapshot, ARM)
    run_online(config, snapshot, drawn, Contestant("cosine", 0.3), World(OWN), 0, start)
    for kind in ("popularity", "bandit", "ranker"):
        run_online(config, snapshot, drawn, Contestant(kind, 0.3), World(OWN), 0, None)  # type: ignore[arg-type]


def _snapshot(config: Config) -> Any:
    return open_snapshot(latest_snapshot(config.work_path / "snapshots"))


STAGES: tuple[Callable[[Config], None], ...] = (
    extract,
    extract_again,
    scaled,
    split,
    pretrain,
    finetune,
    similarity,
    panel,
    online,
)


def measured(stage: Callable[[Config], None], config: Config) -> tuple[float, float]:
    """Run a stage: seconds, and the most anonymous memory of this process, in MiB, looked at every 20 ms."""
    over, most = threading.Event(), [0.0]

    def watch() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], _anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    started = time.perf_counter()
    stage(config)
    seconds = time.perf_counter() - started
    over.set()
    watcher.join()
    return seconds, max(most[0], _anonymous())


def _anonymous() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workdir", type=Path, required=True)
    options = parser.parse_args()
    seconds: dict[str, dict[int, float]] = {}
    memory: dict[str, dict[int, float]] = {}
    for jobs in options.jobs:
        config = configured(options.workdir, jobs)
        config.work_path.mkdir(parents=True, exist_ok=True)
        for stage in (None, *STAGES):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                if stage is None:
                    process.submit(fill, config, jobs).result()
                    continue
                found = process.submit(measured, stage, config).result()
            seconds.setdefault(stage.__name__, {})[jobs], memory.setdefault(stage.__name__, {})[jobs] = found
            print(f"{jobs:,} jobs, {stage.__name__}: {found[0]:.1f} s, {found[1]:.0f} MiB", flush=True)
    print("\nseconds\n" + pd.DataFrame(seconds).T.round(1).to_string())
    print("\nMiB beside the page cache\n" + pd.DataFrame(memory).T.round(0).to_string())


if __name__ == "__main__":
    main()
