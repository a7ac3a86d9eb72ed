"""Which pairs an audit asks about: frozen ones, and those that people have answered."""

from __future__ import annotations

import hashlib
from bisect import bisect_left

import torch

from dynaq.config import HumanLabelsConfig
from dynaq.config_file import expand_environment
from dynaq.data.snapshot import Snapshot
from dynaq.data.tables import read_table
from dynaq.errors import InputError
from dynaq.llm.label import ACTIONS
from dynaq.rewards.cosine import CosineReward

_AROUND = 50  # jobs among which an applicant's likely one is looked for

Pair = tuple[int, int]
"""Rows of an applicant and a job in a snapshot."""


def frozen_pairs(snapshot: Snapshot, count: int) -> list[Pair]:
    """Rows of pairs that stay the same ones while their applicants and jobs exist, whatever else comes and goes.

    Applicants with the smallest hashes, each with the next job on a ring of hashes (consistent hashing, Karger et al.
    1997); every other one with the likeliest by cosine of the next 50, because random pairs are nearly all ignored.
    """
    applicants = sorted(range(len(snapshot.applicant_ids)), key=lambda row: _hash(snapshot.applicant_ids[row]))
    ring = sorted((_hash(name), row) for row, name in enumerate(snapshot.job_ids))
    cosine = CosineReward(snapshot)
    pairs = []
    for place, applicant in enumerate(applicants[:count]):
        start = bisect_left(ring, (_hash("ring", snapshot.applicant_ids[applicant]), 0))
        jobs = torch.tensor([ring[(start + step) % len(ring)][1] for step in range(min(_AROUND, len(ring)))])
        likely = int(cosine(torch.full_like(jobs, applicant), jobs).argmax())
        pairs.append((applicant, int(jobs[likely if place % 2 else 0])))
    return pairs


def human_labels(snapshot: Snapshot, table: HumanLabelsConfig) -> dict[Pair, str]:
    """What people answered, for the pairs that the snapshot holds; the last answer to a pair counts.

    Raises:
        InputError: the table cannot be read, or an action is none of apply, save, ignore.
    """
    key = "llm.audit.human"
    columns = {table.applicant: f"{key}.applicant", table.job: f"{key}.job", table.action: f"{key}.action"}
    rows = {name: row for row, name in enumerate(snapshot.applicant_ids)}
    jobs = {name: row for row, name in enumerate(snapshot.job_ids)}
    path = expand_environment(table.path)
    answers: dict[Pair, str] = {}
    for batch in read_table(path, columns, 1000):
        for row in batch:
            action = str(row[table.action]).strip().lower()
            if action not in ACTIONS:
                raise InputError(f"{path}: {row[table.action]!r} is no action: write apply, save or ignore")
            pair = rows.get(str(row[table.applicant])), jobs.get(str(row[table.job]))
            if pair[0] is not None and pair[1] is not None:
                answers[pair[0], pair[1]] = action
    return answers


def _hash(*texts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest())
