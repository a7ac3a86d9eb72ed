"""Graded pairs from a file: what is read, what is ranked, and figures that were worked out by hand."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from dynaq.agents.stages import split_of
from dynaq.config.relevance import RelevanceConfig
from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import InputError
from dynaq.evaluation.judges.graded import lists_from_file, read_lists
from dynaq.evaluation.judges.judged import ArmRelevance, SameForAll, compare, permutation_test, ranked
from dynaq.evaluation.judges.relevance import Grades, Lists, popularity, read_grades, sample_pairs
from tests.bench.views import applicants, split
from tests.evaluation.online_toys import configured
from tests.paths import ROOT

ALL = np.arange(80)  # jobs


class Matrix:
    """Scores of all pairs."""

    def __init__(self, scores: np.ndarray) -> None:
        self.all = torch.from_numpy(scores.astype(np.float32))

    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        return self.all[applicants[:, None], jobs]


def table(path: Path, rows: list[tuple[Any, ...]], names: tuple[str, ...] = ("who", "what", "how")) -> RelevanceConfig:
    frame = pd.DataFrame(rows, columns=list(names))
    writers = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".parquet": lambda: frame.to_parquet(path),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
    }
    writers[path.suffix]()
    return RelevanceConfig(path=str(path), applicant="who", job="what", grade="how", negatives=5, earlier=None)


def graded(rows: int = 20, seed: int = 0) -> Grades:
    """Three jobs an applicant, graded 0, 1 and 2."""
    chance = np.random.default_rng(seed)
    return Grades.of({(a, int(j)): g for a in range(rows) for g, j in enumerate(chance.permutation(80)[:3])})


def test_the_permutation_test_is_exact_for_few_and_keeps_its_level() -> None:
    chance = np.random.default_rng(0)
    difference = chance.normal(size=8)
    means = [abs((difference * signs).mean()) for signs in itertools.product([1, -1], repeat=8)]
    exact = np.mean(np.array(means) >= abs(difference.mean()) - 1e-12)
    assert permutation_test(difference, np.zeros(8)) == pytest.approx(exact)
    assert permutation_test(np.ones(8), np.zeros(8)) == pytest.approx(2 / 2**8)
    assert permutation_test(difference, difference) == 1.0
    rejected = [permutation_test(*chance.normal(size=(2, 9))) < 0.05 for _ in range(200)]
    assert 0.01 <= np.mean(rejected) <= 0.10
    shifted = chance.normal(size=(2, 100))
    shifted[0] += 0.8
    assert permutation_test(*shifted, seed=1) == permutation_test(*shifted, seed=1) < 0.001


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_grades_are_read_from_any_table(
    kind: str, small_snapshot: Snapshot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        ("applicants-3", "jobs-7", 1),
        ("applicants-1", "jobs-2", 0),
        ("nobody", "jobs-2", 3),
        ("applicants-3", "jobs-7", 2.5),
    ]
    config = table(tmp_path / f"grades{kind}", rows)
    with caplog.at_level(logging.WARNING):
        read = read_grades(small_snapshot, config)
    assert (read.applicants.tolist(), read.jobs.tolist(), read.grades.tolist()) == ([1, 3], [2, 7], [0.0, 2.5])
    assert (read.applicants.dtype, read.grades.dtype) == (np.int64, np.float32)
    assert "1 rows are not in the snapshot and left out, such as applicant 'nobody' with job 'jobs-2'" in caplog.text
    listed = read_grades(small_snapshot, config.model_copy(update={"grade": None}))
    assert listed.grades.tolist() == [1.0, 1.0]


def test_popularity_counts_applicants_and_also_strangers(small_snapshot: Snapshot, tmp_path: Path) -> None:
    rows = [("x", "jobs-2"), ("x", "jobs-2"), ("y", "jobs-2"), ("applicants-1", "jobs-0"), ("y", "gone")]
    config = table(tmp_path / "seen.csv", rows, ("who", "what"))
    counts = popularity(small_snapshot, config)
    assert (counts[2], counts[0], counts.sum(), counts.shape) == (2.0, 1.0, 3.0, (80,))


@pytest.mark.parametrize(
    ("rows", "change", "said"),
    [
        ([("me", "jobs-1", 1), ("you", "x", 1)], {}, r"none of its 2 pairs, such as applicant 'me' with job 'jobs-1'"),
        ([("applicants-1", "jobs-1", -1)], {}, r"-1 is no grade: write a number from 0 to 30"),
        ([("applicants-1", "jobs-1", 31)], {}, r"31 is no grade"),
        ([("applicants-1", "jobs-1", "good")], {}, r"'good' is no grade"),
        ([("applicants-1", "jobs-1", None)], {}, r"None is no grade"),
        ([("applicants-1", "jobs-1", 1)], {"grade": "stars"}, r"relevance\.grade names the column 'stars'"),
        ([("applicants-1", "jobs-1", 1)], {"path": "nowhere.csv"}, r"no table at nowhere\.csv"),
    ],
)
def test_a_table_that_cannot_be_used(
    rows: list[Any], change: dict[str, str], said: str, small_snapshot: Snapshot, tmp_path: Path
) -> None:
    config = table(tmp_path / "grades.csv", rows).model_copy(update=change)
    with pytest.raises(InputError, match=said):
        read_grades(small_snapshot, config)


def test_ids_are_those_of_ingest_and_a_foreign_table_of_popularity_is_said(
    small_snapshot: Snapshot, tmp_path: Path
) -> None:
    numbered = Snapshot(
        small_snapshot.path,
        small_snapshot.manifest,
        small_snapshot.applicants,
        small_snapshot.jobs,
        [str(n) for n in range(60)],
        [str(n) for n in range(80)],
    )
    config = table(tmp_path / "grades.parquet", [(4.0, 5, 1)])  # pandas made a float of it
    assert read_grades(numbered, config).applicants.tolist() == [4]
    with pytest.raises(InputError, match=r"holds none of its jobs, such as '5': does relevance\.earlier\.job name"):
        popularity(small_snapshot, config)


def test_a_list_is_the_same_whoever_else_comes(small_snapshot: Snapshot) -> None:
    grades = graded()
    whole = Lists.of(small_snapshot, grades, ALL, 5, seed=0)
    assert whole.jobs.shape == (20, 8)
    assert whole.listed.all()
    assert sorted(whole.grades[4].tolist()) == [0, 0, 0, 0, 0, 0, 1, 2]
    own = {int(j): float(g) for a, j, g in zip(grades.applicants, grades.jobs, grades.grades, strict=True) if a == 4}
    shown = dict(zip(whole.jobs[4].tolist(), whole.grades[4].tolist(), strict=True))
    assert len(shown) == 8
    assert own.items() <= shown.items()
    assert len(set(np.argmax(whole.grades, axis=1).tolist())) > 3, "where the relevant job stands tells nothing"
    alone = Lists.of(small_snapshot, Grades.of({(4, job): grade for job, grade in own.items()}), ALL, 5, seed=0)
    assert np.array_equal(alone.jobs[0], whole.jobs[4])
    assert not np.array_equal(Lists.of(small_snapshot, grades, ALL, 5, seed=1).jobs, whole.jobs)


def test_lists_of_all_jobs_without_earlier_ones_and_of_nothing_else(small_snapshot: Snapshot) -> None:
    grades = Grades.of({(0, 1): 1.0, (0, 2): 0.0, (3, 5): 2.0, (4, 6): 0.5, (5, 7): float("nan")})
    earlier = Grades.of({(0, 9): 1.0, (0, 10): 1.0, (0, 1): 1.0, (3, 9): 1.0})
    lists = Lists.of(small_snapshot, grades, ALL, 1000, seed=0, earlier=earlier)
    assert lists.applicants.tolist() == [0, 3], "nobody else has a relevant job"
    assert lists.listed.sum(axis=1).tolist() == [78, 79]
    first = lists.jobs[0][lists.listed[0]]
    assert sorted(first) == sorted({*range(80)} - {9, 10})
    bare = Lists.of(small_snapshot, grades, ALL, 0, seed=0)
    assert bare.listed.tolist() == [[True, True], [True, False]]
    with pytest.raises(InputError, match="none of 1 graded pairs has a grade of 1 or more"):
        Lists.of(small_snapshot, Grades.of({(0, 1): 0.5}), ALL, 5, seed=0)


def test_only_who_and_what_was_never_trained_on_is_ranked(small_snapshot: Snapshot, tmp_path: Path) -> None:
    rows = [(f"applicants-{a}", f"jobs-{(7 * a + i) % 80}", 1) for a in range(60) for i in range(4)]
    given = table(tmp_path / "graded.csv", rows).model_dump() | {"negatives": 6}
    config = configured(tmp_path / "work", relevance=given)
    split, read = split_of(config, small_snapshot), read_lists(lists_from_file(config, small_snapshot))
    lists = read.lists
    aside = {person: set(split.held_out_jobs) & {(7 * person + i) % 80 for i in range(4)} for person in range(60)}
    assert lists.applicants.tolist() == [person for person in split.held_out_applicants if aside[person]]
    assert np.isin(lists.jobs[lists.listed], split.held_out_jobs).all()
    for person, jobs, grades in zip(lists.applicants, lists.jobs, lists.grades, strict=True):
        assert set(jobs[grades > 0]) == aside[person]
    pairs = sum(len(aside[person]) for person in split.held_out_applicants)
    assert read.title == (
        f"graded.csv: {pairs} of 240 graded pairs, those with both sides held out; for {len(lists.applicants)}"
        " applicants, among 6 randomly drawn other held-out jobs"
    )
    one = split.held_out_applicants[0], split.training_jobs[0]
    few = table(tmp_path / "few.csv", [(f"applicants-{one[0]}", f"jobs-{one[1]}", 1)]).model_dump()
    with pytest.raises(InputError, match=r"few.csv: 0 of its 1 graded pairs .* raise split.applicants and split.jobs"):
        lists_from_file(configured(tmp_path / "work", relevance=few), small_snapshot)


def test_lists_are_known_by_popularity_too(small_snapshot: Snapshot, tmp_path: Path) -> None:
    rows = [(f"applicants-{a}", f"jobs-{(7 * a + i) % 80}", 1) for a in range(60) for i in range(4)]
    given = table(tmp_path / "graded.csv", rows).model_dump()
    counts = []
    for viewers in (2, 5):  # strangers, who change no list
        met = [("applicants-0", "jobs-1"), *((f"stranger-{n}", "jobs-3") for n in range(viewers))]
        seen = table(tmp_path / "seen.csv", met, ("who", "what"))
        earlier = {"path": seen.path, "applicant": "who", "job": "what"}
        config = configured(tmp_path / "work", relevance=given | {"earlier": earlier})
        popular = read_lists(lists_from_file(config, small_snapshot)).popularity
        assert popular is not None
        counts.append(popular[3])
    assert counts == [2, 5]


def test_arms_are_told_apart_by_what_they_rank_first(small_snapshot: Snapshot) -> None:
    chance = np.random.default_rng(0)
    grades = graded(40)
    truth = np.zeros((60, 80))
    truth[grades.applicants, grades.jobs] = grades.grades
    lists = Lists.of(small_snapshot, grades, ALL, 60, seed=0)
    arms = {
        "random": SameForAll(np.zeros(80, np.float32)),
        "raw cosine": Matrix(truth + 2.0 * chance.normal(size=truth.shape)),
        "right": Matrix(truth),
        "noise": Matrix(chance.normal(size=truth.shape)),
    }

    def judge() -> list[ArmRelevance]:
        return compare({name: ranked(arm, lists, name) for name, arm in arms.items()})

    found = {(row.arm, row.metric): row for row in judge()}
    assert len(found) == 8
    for metric in ("NDCG@10", "hit@10"):
        right, cosine, noise = (found[name, metric] for name in ("right", "raw cosine", "noise"))
        assert (right.mean, right.low, right.high) == (1.0, 1.0, 1.0)
        assert 0 < cosine.low < cosine.mean < cosine.high < 1
        assert right.p["raw cosine"] < 0.001
        assert right.p["random"] < 0.001
        assert noise.p["random"] > 0.01
        assert cosine.p.keys() == {"random"}
    none = np.prod([(61 - i) / (63 - i) for i in range(10)])  # of 63 jobs two are relevant
    assert found["random", "hit@10"].mean == pytest.approx(1 - none)
    assert judge() == judge()


def test_what_cannot_be_judged(small_snapshot: Snapshot) -> None:
    lists = Lists.of(small_snapshot, graded(), ALL, 5, seed=0)
    random = SameForAll(np.zeros(80, np.float32))
    with pytest.raises(InputError, match="tested against raw cosine, which is not among random"):
        compare({"random": ranked(random, lists)})
    with pytest.raises(InputError, match="llm gives scores that are no finite numbers"):
        ranked(SameForAll(np.full(80, np.nan, np.float32)), lists, "llm")
    with pytest.raises(InputError, match="1 applicant has a relevant job"):
        compare({"random": ranked(random, Lists.of(small_snapshot, graded(1), ALL, 5, seed=0))}, against=())


def test_pairs_for_a_judge_are_the_same_whoever_else_comes(small_snapshot: Snapshot) -> None:
    people, jobs = np.arange(10, 40), np.arange(20, 80)
    asked = sample_pairs(small_snapshot, people, jobs, (6, 5), seed=0)
    assert [len(side) for side in asked] == [30, 30]
    assert len(set(zip(*(side.tolist() for side in asked), strict=True))) == 30
    assert set(asked[0].tolist()) <= set(people.tolist())
    assert set(asked[1].tolist()) <= set(jobs.tolist())
    fewer = sample_pairs(small_snapshot, asked[0][:5], jobs[::-1], (1, 5), seed=0)
    assert all(np.array_equal(side, other[:5]) for side, other in zip(fewer, asked, strict=True))
    assert len(sample_pairs(small_snapshot, people[:2], jobs[:3], (6, 5), seed=0)[0]) == 6


def test_the_tables_of_real_views() -> None:
    views = pd.DataFrame(
        [(1, 10, "03"), (1, 11, "01"), (1, 12, "02"), (1, 11, "09"), (2, 10, "01"), (2, 11, "02")]
        + [(3, job, f"0{job - 9}") for job in (10, 11, 12)],
        columns=["applicant_id", "job_id", "view_start"],
    )
    experience = pd.DataFrame(
        [(1, "Cook", "Fried"), (1, "Cook", None), (4, "Baker", "Baked"), (2, None, None)],
        columns=["applicant_id", "position_name", "description"],
    )
    interests = pd.DataFrame([(1, "Chef"), (2, "Host")], columns=["applicant_id", "position_of_interest"])
    people = applicants(experience, interests, views)
    assert people.to_dict("records") == [
        {"applicant_id": 1, "interests": "Chef", "positions": "Cook", "descriptions": "Fried"},
        {"applicant_id": 2, "interests": "Host", "positions": "", "descriptions": ""},
    ]
    train, test = split(views, people["applicant_id"])
    assert test.to_numpy().tolist() == [[1, 10]], "the job first seen last; 2 has seen too few, 3 has no text"
    assert len(train) == 7
    assert not train.merge(test).size
    config = load_config(ROOT / "configs" / "views.yaml")
    assert config.ingest is not None
    columns = {column for fields in config.ingest.applicants.columns.values() for column in fields}
    assert columns <= set(people.columns)


def test_the_configuration_says_what_is_wrong() -> None:
    whole = {"path": "a.csv", "applicant": "a", "job": "j", "grade": None, "negatives": 100, "earlier": None}
    assert RelevanceConfig.model_validate_json(json.dumps(whole)).negatives == 100
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        RelevanceConfig.model_validate(whole | {"negatives": -1})
