"""Which pairs an audit asks about: frozen ones, and those that people have answered."""

from __future__ import annotations

import hashlib
import logging
from bisect import bisect_left

import torch

from dynaq.config import HumanLabelsConfig
from dynaq.config_file import expand_environment
from dynaq.data.fields import as_id
from dynaq.data.snapshot import Snapshot
from dynaq.data.tables import read_table
from dynaq.errors import InputError
from dynaq.llm.label import ACTIONS
from dynaq.rewards.cosine import CosineReward

log = logging.getLogger(__name__)

_AROUND = 50  # jobs among which an applicant's likely one is looked for

Pair = tuple[int, int]
"""Rows of an applicant and a job in a snapshot."""


def frozen_pairs(snapshot: Snapshot, count: int) -> list[Pair]:
    """Rows of pairs of which few change when other applicants and jobs come and go.

    Applicants with the smallest hashes, each with the next job on a ring of hashes (consistent hashing, Karger et al.
    1997); about every other one with the likeliest by cosine of the next 50, because random pairs are nearly all
    ignored.
    """
    applicants = sorted(range(len(snapshot.applicant_ids)), key=lambda row: _hash(snapshot.applicant_ids[row]))
    ring = sorted((_hash(name), row) for row, name in enumerate(snapshot.job_ids))
    cosine = CosineReward(snapshot)
    pairs = []
    for applicant in applicants[:count]:
        place = _hash("ring", snapshot.applicant_ids[applicant])
        start = bisect_left(ring, (place, 0))
        jobs = torch.tensor([ring[(start + step) % len(ring)][1] for step in range(min(_AROUND, len(ring)))])
        likely = int(cosine(torch.full_like(jobs, applicant), jobs).argmax())
        pairs.append((applicant, int(jobs[likely if place % 2 else 0])))
    return pairs


def human_labels(snapshot: Snapshot, table: HumanLabelsConfig) -> dict[Pair, str]:
    """What people answered, for the pairs that the snapshot holds; the last answer to a pair counts.

    Raises:
        InputError: the table cannot be read, an action is none of apply, save, ignore, or the snapshot holds no pair.
    """
    key = "llm.audit.human"
    columns = {table.applicant: f"{key}.applicant", table.job: f"{key}.job", table.action: f"{key}.action"}
    rows = {name: row for row, name in enumerate(snapshot.applicant_ids)}
    jobs = {name: row for row, name in enumerate(snapshot.job_ids)}
    path = expand_environment(table.path)
    answers: dict[Pair, str] = {}
    unknown: list[str] = []
    for batch in read_table(path, columns, 1000):
        for row in batch:
            action = str(row[table.action]).strip().lower()
            if action not in ACTIONS:
                raise InputError(f"{path}: {row[table.action]!r} is no action: write apply, save or ignore")
            applicant, job = as_id(row[table.applicant]), as_id(row[table.job])
            if applicant in rows and job in jobs:
                answers[rows[applicant], jobs[job]] = action
            else:
                unknown.append(f"applicant {applicant!r} with job {job!r}")
    if unknown and not answers:
        raise InputError(
            f"{path}: the snapshot holds none of its {len(unknown)} pairs, such as {unknown[0]}: do {key}.applicant"
            f" and {key}.job name the columns with the ids of the ingested tables?"
        )
    if unknown:
        log.warning("%s: %d rows are not in the snapshot and left out, such as %s", path, len(unknown), unknown[0])
    return answers


def _hash(*texts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest())
