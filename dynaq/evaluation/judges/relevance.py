"""Relevance that people, a log or another LLM tell: graded pairs, and the lists of jobs that every arm ranks.

Where only positives are logged, other jobs are drawn at random and taken for irrelevant. Metrics on such a sample
depend on its size and may order close arms differently than the whole catalogue would (Krichene and Rendle 2020, "On
sampled metrics for item recommendation"): rank all jobs where that is affordable.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynaq.config.relevance import PairsConfig, RelevanceConfig
from dynaq.config_file import expand_environment
from dynaq.data.fields import as_id
from dynaq.data.snapshot import Snapshot
from dynaq.data.tables import Row, read_table
from dynaq.errors import InputError
from dynaq.evaluation.market.draws import bits, identity_keys

log = logging.getLogger(__name__)

RELEVANT = 1.0
"""The least grade of a job that counts as found."""

_HIGHEST = 30.0  # a gain is 2^grade - 1: beyond that one job outweighs a billion others

Pair = tuple[int, int]
"""Rows of an applicant and a job in a snapshot."""


@dataclass(frozen=True)
class Grades:
    """Graded pairs, each once, ordered by rows.

    Attributes:
        applicants, jobs: int64 [L], rows of a snapshot.
        grades: float32 [L].
    """

    applicants: NDArray[np.int64]
    jobs: NDArray[np.int64]
    grades: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.grades)

    @classmethod
    def of(cls, graded: Mapping[Pair, float]) -> Grades:
        """From pair -> grade; what has no grade (NaN) is left out."""
        pairs = sorted(pair for pair, grade in graded.items() if not math.isnan(grade))
        rows = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return cls(rows[:, 0], rows[:, 1], np.array([graded[pair] for pair in pairs], dtype=np.float32))

    def among(self, applicants: NDArray[np.int64], jobs: NDArray[np.int64]) -> Grades:
        """The pairs whose applicant and whose job are among these rows."""
        kept = np.isin(self.applicants, applicants) & np.isin(self.jobs, jobs)
        return Grades(self.applicants[kept], self.jobs[kept], self.grades[kept])


@dataclass(frozen=True)
class Lists:
    """What every arm ranks: a list of jobs for each applicant, in an order that tells nothing.

    Attributes:
        applicants: int64 [A], ascending.
        jobs: int64 [A, n]; where a list has ended, any row.
        grades: float32 [A, n]; 0 for drawn jobs and where a list has ended.
        listed: bool [A, n], False where a list has ended.
    """

    applicants: NDArray[np.int64]
    jobs: NDArray[np.int64]
    grades: NDArray[np.float32]
    listed: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        grades: Grades,
        catalogue: NDArray[np.int64],
        negatives: int,
        seed: int,
        earlier: Grades | None = None,
    ) -> Lists:
        """The graded jobs of each applicant among others, drawn by a hash of both ids: the same whoever else comes.

        Args:
            snapshot: what the rows index.
            grades: applicants without a grade of 1 or more are left out: there is nothing to be found.
            catalogue: rows of jobs that the others are drawn from.
            negatives: how many others; all there are if those are fewer.
            seed: of the draw.
            earlier: pairs that are not drawn.

        Raises:
            InputError: no pair has a grade of 1 or more.
        """
        people = np.unique(grades.applicants[grades.grades >= RELEVANT])
        if not len(people):
            raise InputError(
                f"none of {len(grades)} graded pairs has a grade of {RELEVANT:g} or more, so nobody has a job to"
                " be found: grades start at 0, of no use"
            )
        keys, job_keys = identity_keys(snapshot.applicant_ids), identity_keys(snapshot.job_ids)
        rows, graded_rows = [], []
        for applicant in people:
            own = grades.applicants == applicant
            graded, turns = grades.jobs[own], bits(keys[applicant], job_keys, seed)
            seen = earlier.jobs[earlier.applicants == applicant] if earlier else graded
            others = np.setdiff1d(catalogue, np.union1d(graded, seen))
            drawn = others[np.argsort(turns[others])[:negatives]]
            row = np.concatenate([graded, drawn])
            shuffled = np.argsort(bits(keys[applicant], job_keys[row], seed, 1))  # not the draw's own hash
            rows.append(row[shuffled])
            graded_rows.append(np.concatenate([grades.grades[own], np.zeros(len(drawn), np.float32)])[shuffled])
        lengths = np.array([len(row) for row in rows])
        listed = np.arange(lengths.max()) < lengths[:, None]
        jobs, padded = np.zeros(listed.shape, dtype=np.int64), np.zeros(listed.shape, dtype=np.float32)
        jobs[listed], padded[listed] = np.concatenate(rows), np.concatenate(graded_rows)
        return cls(people, jobs, padded, listed)


def read_grades(snapshot: Snapshot, table: PairsConfig, key: str = "relevance") -> Grades:
    """Graded pairs of a table; of rows about one pair the last counts.

    Args:
        snapshot: whose applicants and jobs are meant.
        table: the file; without a column of grades every pair has grade 1.
        key: the configuration key of ``table``, for errors.

    Raises:
        InputError: the table cannot be read, a grade is no number from 0 to 30, or no pair is in the snapshot.
    """
    column = table.grade if isinstance(table, RelevanceConfig) else None
    people = {name: row for row, name in enumerate(snapshot.applicant_ids)}
    jobs = {name: row for row, name in enumerate(snapshot.job_ids)}
    path = expand_environment(table.path)
    graded: dict[Pair, float] = {}
    unknown: list[str] = []
    for row in _rows(path, table, key, column):
        grade = 1.0 if column is None else _grade(row[column], path)
        applicant, job = as_id(row[table.applicant]), as_id(row[table.job])
        if applicant in people and job in jobs:
            graded[people[applicant], jobs[job]] = grade
        else:
            unknown.append(f"applicant {applicant!r} with job {job!r}")
    if not graded:
        raise InputError(
            f"{path}: the snapshot holds none of its {len(unknown)} pairs, such as {unknown[0]}: do {key}.applicant"
            f" and {key}.job name the columns with the ids of the ingested tables?"
        )
    if unknown:
        log.warning("%s: %d rows are not in the snapshot and left out, such as %s", path, len(unknown), unknown[0])
    return Grades.of(graded)


def popularity(snapshot: Snapshot, table: PairsConfig, key: str = "relevance.earlier") -> NDArray[np.float32]:
    """How many applicants met each job in a table, those that the snapshot lacks among them: float32 [M].

    Raises:
        InputError: the table cannot be read, or names no job of the snapshot.
    """
    path = expand_environment(table.path)
    met = {(as_id(row[table.applicant]), as_id(row[table.job])) for row in _rows(path, table, key)}
    rows = {name: row for row, name in enumerate(snapshot.job_ids)}
    found = [rows[job] for _, job in met if job in rows]
    if not found:
        raise InputError(
            f"{path}: the snapshot holds none of its jobs, such as {min(met)[1]!r}: does {key}.job name the column"
            " with the ids of the ingested table?"
        )
    return np.bincount(found, minlength=len(rows)).astype(np.float32)


def sample_pairs(
    snapshot: Snapshot, applicants: NDArray[np.int64], jobs: NDArray[np.int64], each: tuple[int, int], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs for another LLM to grade, drawn by hashes of the ids: the same whoever else comes.

    Args:
        snapshot: what the rows index.
        applicants, jobs: rows to draw from, such as those held out.
        each: most applicants, and most jobs for each of them.
        seed: of the draw.

    Returns:
        Rows of applicants and of jobs, int64 [L] each; those of an applicant together.
    """
    keys, job_keys = identity_keys(snapshot.applicant_ids), identity_keys(snapshot.job_ids)
    people = applicants[np.argsort(bits(keys[applicants], seed))[: each[0]]]
    drawn = [jobs[np.argsort(bits(keys[person], job_keys[jobs], seed))[: each[1]]] for person in people]
    return np.repeat(people, [len(row) for row in drawn]), np.concatenate(drawn)


def _rows(path: Path, table: PairsConfig, key: str, grade: str | None = None) -> Iterator[Row]:
    columns = {table.applicant: f"{key}.applicant", table.job: f"{key}.job"}
    if grade is not None:
        columns[grade] = f"{key}.grade"
    for batch in read_table(path, columns, 1000):
        yield from batch


def _grade(cell: object, path: Path) -> float:
    number = float(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else math.nan
    if not 0 <= number <= _HIGHEST:
        raise InputError(f"{path}: {cell!r} is no grade: write a number from 0 to {_HIGHEST:g}")
    return number
