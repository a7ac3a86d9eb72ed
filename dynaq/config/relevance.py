"""Judges beside the simulated market: graded pairs from a file, and another LLM."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynaq.config.section import Count, Name, Section, TablePath


class PairsConfig(Section):
    """A table of (applicant, job) pairs: a .csv, .jsonl or .parquet file and its columns.

    Attributes:
        path: ``${NAME}`` is taken from the environment; without ``..``.
        applicant, job: columns with ids, as in MongoDB.
    """

    path: TablePath
    applicant: Name
    job: Name


class RelevanceConfig(PairsConfig):
    """How relevant jobs are to applicants, from people or from a log.

    Attributes:
        grade: column with numbers from 0, of no use, upwards; from 1 on a job is relevant. null: every listed pair
            has grade 1.
        negatives: other jobs that are ranked with the graded ones of an applicant, drawn at random and taken for
            irrelevant; as many as there are jobs, or more: all others. 0 where the table grades whole lists.
        earlier: what happened before the grades, such as the views that are not held out. Popularity is counted
            there, and its pairs are never taken for irrelevant ones.
    """

    grade: Name | None
    negatives: Annotated[int, Field(ge=0)]
    earlier: PairsConfig | None = None


class JudgeConfig(Section):
    """Another LLM that grades pairs; its server comes from the environment (DYNAQ_JUDGE_MODEL, ...).

    Attributes:
        persona: who judges and by what, a text for the prompt: ``a recruiter of 20 years who ...``.
        applicants: held-out applicants that are judged.
        jobs: held-out jobs for each of them, drawn at random. Their product is the most labels that may be paid.
    """

    persona: Name
    applicants: Count
    jobs: Count
