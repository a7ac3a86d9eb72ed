"""Judges beside the market: graded pairs, from a file or another LLM, and how everybody ranks them at launch."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynaq.agents.stages import one_thread, split_of
from dynaq.artifacts import code_version, finished, inputs_key, publish, readable
from dynaq.config import Config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import InputError
from dynaq.evaluation.contestants import Contestant
from dynaq.evaluation.judges.judged import ArmRelevance, Metric, SameForAll, compare, ranked
from dynaq.evaluation.judges.relevance import RELEVANT, Grades, Lists, popularity, read_grades, sample_pairs
from dynaq.evaluation.panel import read_panel
from dynaq.evaluation.starts import starting
from dynaq.rewards.judge import JUDGE_VERSION, judge_settings, judged_grades
from dynaq.rewards.labeller import Labeller

Floats = NDArray[np.float64]
_WITHOUT_RANKING = ("optimum", "random", "popularity")


@dataclass(frozen=True)
class GradedLists:
    """Lists that everybody ranks.

    Attributes:
        title: whose grades.
        lists: candidates of each applicant.
        popularity: float32 [M], how many met each job before; None where that is not known.
        path: where they lie.
    """

    title: str
    lists: Lists
    popularity: NDArray[np.float32] | None
    path: Path


def lists_from_file(config: Config, snapshot: Snapshot) -> Path:
    """Lists of ``relevance``: logged or human grades of who and what was never trained on; returns their directory.

    Raises:
        InputError: the table cannot be read, or grades fewer than two held-out applicants.
    """
    table = config.relevance
    assert table is not None, "the flow asks only where there is a table"
    split, known = split_of(config, snapshot), read_grades(snapshot, table)
    grades = known.among(split.held_out_applicants, split.held_out_jobs)
    people = len(np.unique(grades.applicants[grades.grades >= RELEVANT]))
    if people < 2:
        raise InputError(
            f"{Path(table.path).name}: {len(grades)} of its {len(known)} graded pairs are of held-out applicants and"
            f" jobs, relevant ones for {people}, and an interval needs two applicants: raise split.applicants and"
            " split.jobs, or grade more"
        )
    earlier = read_grades(snapshot, table.earlier, "relevance.earlier") if table.earlier else None
    popular = popularity(snapshot, table.earlier) if table.earlier else None
    lists = Lists.of(snapshot, grades, split.held_out_jobs, table.negatives, config.seed, earlier)
    others = "all" if table.negatives >= len(split.held_out_jobs) else f"{table.negatives} randomly drawn"
    title = (
        f"{Path(table.path).name}: {len(grades):,} of {len(known):,} graded pairs, those with both sides held out; for"
        f" {people:,} applicants, among {others} other held-out jobs"
    )
    return _store(config, snapshot, title, lists, popular)


def lists_from_judge(config: Config, snapshot: Snapshot, labeller: Labeller) -> Path:
    """Lists of pairs that another LLM has graded, held-out applicants x held-out jobs; returns their directory.

    Raises:
        InputError: it found no job worth an interview.
        LabelError, TransientError: labels cannot be had; those already paid for are stored.
    """
    judge = config.judge
    assert judge is not None, "the flow asks only where there is a judge"
    split = split_of(config, snapshot)
    size = judge.applicants, judge.jobs
    rows = sample_pairs(snapshot, split.held_out_applicants, split.held_out_jobs, size, config.seed)
    graded = judged_grades(snapshot, labeller, judge_settings(config.llm), judge.persona, *rows)
    pairs = zip(*(each.tolist() for each in rows), strict=True)
    grades = Grades.of(dict(zip(pairs, graded.tolist(), strict=True)))
    lists = Lists.of(snapshot, grades, split.held_out_jobs, 0, config.seed)
    missing = int(np.isnan(graded).sum())
    title = (
        f"{labeller.provenance} as {judge.persona} ({JUDGE_VERSION}): {len(lists.applicants):,} held-out applicants,"
        f" {len(graded):,} graded pairs, {missing} missing"
    )
    return _store(config, snapshot, title, lists, None)


def _store(config: Config, snapshot: Snapshot, title: str, lists: Lists, popular: NDArray[np.float32] | None) -> Path:
    kept = vars(lists) | ({} if popular is None else {"popularity": popular})
    held = {name: values.tolist() for name, values in kept.items()}  # drawn each time, and known by what they hold
    digest = inputs_key(title=title, snapshot=snapshot.manifest.digest, **held)
    target = config.work_path / "graded" / digest
    if not finished(target, config.work_path):
        with publish(target) as directory:
            np.savez_compressed(directory / "lists.npz", **kept)
            (directory / "title.json").write_text(json.dumps(title) + "\n")
    return target


def read_lists(path: Path) -> GradedLists:
    """Read what was stored.

    Raises:
        ArtifactError: the directory is missing or damaged.
    """
    with readable("lists", path):
        with (path / "lists.npz").open("rb") as file, np.load(file) as arrays:
            kept = dict(arrays)
        popular = kept.pop("popularity", None)
        return GradedLists(json.loads((path / "title.json").read_text()), Lists(**kept), popular, path)


def takes_part(contestant: Contestant, gamma: float) -> bool:
    """Whether a contestant has a ranking at launch that is its own."""
    return (
        contestant.gamma == gamma
        and contestant.kind not in _WITHOUT_RANKING
        and contestant != Contestant("bandit", gamma)
    )  # which knows nothing then


def rank_graded(
    config: Config, snapshot: Snapshot, panel: Path, lists: Path, contestant: Contestant, seed: int, start: Path | None
) -> Path:
    """Rank all lists as a contestant would at launch; returns the result directory, reused if it is there."""
    target = ranking_path(config, lists, contestant, seed, start)
    if not finished(target, config.work_path):
        with one_thread():
            learner = starting(config, snapshot, read_panel(panel), contestant, seed, start).learner
            found = ranked(learner, read_lists(lists).lists, f"{contestant.name}, seed {seed},")
        with publish(target) as directory:
            np.savez(directory / "ranked.npz", **found)  # type: ignore[arg-type]
    return target


def ranking_path(config: Config, lists: Path, contestant: Contestant, seed: int, start: Path | None) -> Path:
    """Where the rankings of a contestant lie, made or not yet."""
    key = inputs_key(
        lists=lists.name,
        agent=config.agent.model_dump() | {"gamma": contestant.gamma},
        finetune=config.finetune.model_dump() if contestant.labels else None,
        start=start.name if start else None,
        seed=seed,
        fresh=config.fresh,
        code=code_version(),
    )
    return config.work_path / "graded" / f"{contestant.slug}-s{seed}-{key}"


def relevance_table(lists: Path, results: Mapping[Contestant, Sequence[Path]]) -> list[ArmRelevance]:
    """All contestants beside random choice and popularity; of several seeds the mean.

    Raises:
        ArtifactError: a result is missing or damaged.
    """
    graded = read_lists(lists)
    zeros = np.zeros(int(graded.lists.jobs.max()) + 1, dtype=np.float32)
    arms: dict[str, Mapping[Metric, Floats]] = {"random": ranked(SameForAll(zeros), graded.lists)}
    if graded.popularity is not None:
        arms["popularity"] = ranked(SameForAll(graded.popularity), graded.lists)
    for contestant, paths in results.items():
        values: dict[Metric, list[Floats]] = defaultdict(list)
        for path in paths:
            with readable("ranking", path), (path / "ranked.npz").open("rb") as file, np.load(file) as arrays:
                for name in arms["random"]:
                    values[name].append(arrays[name])
        arms[contestant.name] = {name: np.mean(each, axis=0) for name, each in values.items()}
    return compare(arms)
