"""Training and held-out rows: by a keyed hash of the id, whole groups of near-duplicates at a time.

Whoever is held out stays held out when others come or go, but for near-duplicates: who links two groups or has the
smallest id of one changes the side of all of it, by coming or by going.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynaq.artifacts import finished, inputs_key, publish, readable, training_code
from dynaq.data import near_duplicates
from dynaq.data.manifest import Side
from dynaq.data.snapshot import Snapshot
from dynaq.errors import InputError

log = logging.getLogger(__name__)

_ROWS, _COUNTS = "rows.npz", "split.json"
_PERSONS: dict[Side, bytes] = {"applicants": b"held_out", "jobs": b"held_out_jobs"}  # equal ids are drawn apart


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a snapshot, ascending int64 [n] each; the two of a side are disjoint and together all its rows."""

    training_applicants: NDArray[np.int64]
    held_out_applicants: NDArray[np.int64]
    training_jobs: NDArray[np.int64]
    held_out_jobs: NDArray[np.int64]


def held_out(
    ids: Sequence[str],
    share: float,
    seed: int,
    side: Side = "applicants",
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Which ids are held out, bool [len(ids)]: each with probability ``share``, by its own hash alone.

    Args:
        ids: stable ids, each once.
        share: probability, between 0 and 1.
        seed: key of the hash.
        side: whose ids they are.
        groups: int64 [len(ids)], the group of each id; the first of its ids in order decides for all of a group.

    Raises:
        InputError: nobody would be held out, or nobody left to train on.
    """
    key = str(seed).encode()

    def is_held_out(identifier: str) -> bool:
        digest = blake2b(identifier.encode(), digest_size=8, key=key, person=_PERSONS[side]).digest()
        return int.from_bytes(digest) < share * 2**64

    if groups is None:
        groups = np.arange(len(ids))
    ascending = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    _, first, member_of = np.unique(groups[ascending], return_index=True, return_inverse=True)
    decided = np.array([is_held_out(ids[row]) for row in ascending[first]], dtype=np.bool_)
    chosen = np.empty(len(ids), dtype=np.bool_)
    chosen[ascending] = decided[member_of]
    if not 0 < chosen.sum() < len(ids):
        raise InputError(
            f"split.{side} {share} holds out {chosen.sum()} of {len(ids)} {side} in {len(decided)} groups of"
            " near-duplicates, and both sides need at least one: change it or extract more"
        )
    return chosen


def stored_split(
    snapshot: Snapshot, applicants_share: float, jobs_share: float, seed: int, workdir: Path, fresh: str | None = None
) -> Split:
    """Split both sides of a snapshot; near-duplicates (`near_duplicates.groups`) lie on one side.

    It is written once as workdir / splits / ``split-<key of all inputs>`` and read from there afterwards. Beside the
    rows lies ``split.json``: how many rows, groups and held-out rows each side has, and its largest group.

    Args:
        snapshot: whose rows.
        applicants_share: probability of a group of applicants to be held out, between 0 and 1.
        jobs_share: the same for jobs.
        seed: key of the hash.
        workdir: where it is kept.
        fresh: part of the key; a new one computes the split anew.

    Raises:
        InputError: a side has nothing held out, or nothing left to train on.
    """
    key = inputs_key(
        snapshot=snapshot.manifest.digest,
        applicants=applicants_share,
        jobs=jobs_share,
        seed=seed,
        fresh=fresh,
        code=training_code(),
    )
    target = workdir / "splits" / f"split-{key}"
    if not finished(target, workdir):
        split, counts = _split(snapshot, applicants_share, jobs_share, seed)
        with publish(target) as directory:
            np.savez(directory / _ROWS, **vars(split))
            (directory / _COUNTS).write_text(json.dumps(counts, indent=2))
    with readable("split", target), (target / _ROWS).open("rb") as file, np.load(file) as rows:
        return Split(**rows)


def _split(
    snapshot: Snapshot, applicants_share: float, jobs_share: float, seed: int
) -> tuple[Split, dict[Side, dict[str, int]]]:
    of_applicants = near_duplicates.groups(snapshot.applicants, snapshot.applicant_texts)
    of_jobs = near_duplicates.groups(snapshot.jobs, snapshot.job_texts)
    applicants = held_out(snapshot.applicant_ids, applicants_share, seed, "applicants", of_applicants)
    jobs = held_out(snapshot.job_ids, jobs_share, seed, "jobs", of_jobs)
    split = Split(np.flatnonzero(~applicants), np.flatnonzero(applicants), np.flatnonzero(~jobs), np.flatnonzero(jobs))
    return split, {
        "applicants": _counts("applicants", of_applicants, applicants),
        "jobs": _counts("jobs", of_jobs, jobs),
    }


def _counts(side: Side, groups: NDArray[np.int64], aside: NDArray[np.bool_]) -> dict[str, int]:
    sizes = np.bincount(groups)
    counts = {
        "rows": len(groups),
        "groups": len(sizes),
        "largest_group": int(sizes.max()),
        "held_out": int(aside.sum()),
    }
    log.info("%s: %d rows in %d groups of near-duplicates, the largest of %d; %d held out", side, *counts.values())
    return counts
