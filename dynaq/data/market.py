"""A small labour market made up from a seed: two tables like those of a job platform, for demos and tests.

Every id starts with ``gen-``. A posting has an occupation, a seniority that drives experience and pay, a city
and a way of working; an applicant has an occupation, perhaps a few skills of one near it, and wishes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dynaq.config import IngestConfig, MarketConfig, TableConfig
from dynaq.data.market_vocabulary import CITIES, OCCUPATIONS, SECTORS, Occupation
from dynaq.disk import needing_room

T = TypeVar("T")

RECIPE = 1  # to be raised with every change of what is generated, so that older files are not reused

_SENIORITY = {  # level -> (share of the market, pay beside mid level)
    "junior": (0.25, 0.75),
    "mid": (0.4, 1.0),
    "senior": (0.25, 1.3),
    "lead": (0.1, 1.6),
}
_REMOTE = ("yes", "hybrid", "no")
_BY_ROLE = {occupation.role: occupation for occupation in OCCUPATIONS}


def generate_market(config: MarketConfig, directory: Path) -> tuple[Path, Path]:
    """Write ``jobs.parquet`` and ``applicants.parquet``, or reuse them if they were made with the same knobs."""
    origin = json.dumps({**config.model_dump(), "recipe": RECIPE}, sort_keys=True).encode()
    directory.mkdir(parents=True, exist_ok=True)
    jobs, applicants = directory / "jobs.parquet", directory / "applicants.parquet"
    if not (_made_from(jobs, origin) and _made_from(applicants, origin)):
        # One stream of random numbers a table: more jobs do not change the applicants.
        of_jobs, of_applicants = np.random.default_rng(config.seed).spawn(2)
        _write(jobs, [_job(of_jobs, number) for number in range(config.jobs)], origin)
        _write(applicants, [_applicant(of_applicants, number) for number in range(config.applicants)], origin)
    return jobs, applicants


def market_tables(directory: Path) -> IngestConfig:
    """The mapping under which `load_documents` reads the two tables of a generated market."""
    return IngestConfig(
        jobs=TableConfig(
            path=str(directory / "jobs.parquet"),
            id="id",
            columns={field: [field] for field in ("title", "skills", "soft_skills", "experience")},
            attributes={field: field for field in ("seniority", "place", "remote", "pay")},
        ),
        applicants=TableConfig(
            path=str(directory / "applicants.parquet"),
            id="id",
            columns={field: [field] for field in ("hard_skills", "soft_skills")},
            attributes={field: field for field in ("occupation", "seniority", "place", "remote", "pay_floor")},
        ),
    )


def _job(rng: np.random.Generator, number: int) -> dict[str, Any]:
    occupation = _one(rng, OCCUPATIONS)
    seniority, place = _level(rng), _one(rng, tuple(CITIES))
    prefix = "" if seniority == "mid" else f"{seniority.capitalize()} "
    sector = f", {_one(rng, SECTORS)}" if rng.random() < 0.3 else ""
    soft_skills = _some(rng, occupation.soft_skills, 2, 3)
    if seniority == "lead":
        soft_skills = list(dict.fromkeys(["leadership", *soft_skills]))
    return {
        "id": f"gen-job-{number:06d}",
        "title": f"{prefix}{_one(rng, occupation.titles)}{sector}",
        "skills": ", ".join(_some(rng, occupation.skills, 4, 7)),
        "soft_skills": ", ".join(soft_skills),
        "experience": _experience(rng, occupation.role, seniority),
        "seniority": seniority,
        "place": place,
        "remote": str(rng.choice(_REMOTE, p=occupation.remote)),
        "pay": _pay(rng, occupation, seniority, place, spread=0.1),
    }


def _applicant(rng: np.random.Generator, number: int) -> dict[str, Any]:
    occupation = _one(rng, OCCUPATIONS)
    seniority, place = _level(rng), _one(rng, tuple(CITIES))
    skills = _some(rng, occupation.skills, 4, 7)
    if rng.random() < 0.3:  # knows a second trade a little
        second = _BY_ROLE[_one(rng, occupation.near)]
        skills = list(dict.fromkeys(skills + _some(rng, second.skills, 2, 3)))[:9]
    usual = _pay(rng, occupation, seniority, place, spread=0.1)
    return {
        "id": f"gen-applicant-{number:06d}",
        "hard_skills": ", ".join(skills),
        "soft_skills": ", ".join(_some(rng, occupation.soft_skills, 2, 4)),
        "occupation": occupation.role,
        "seniority": seniority,
        "place": place,
        "remote": str(rng.choice(_REMOTE, p=occupation.remote)),
        "pay_floor": round(usual * rng.uniform(0.75, 1.0) / 500) * 500,
    }


def _experience(rng: np.random.Generator, role: str, seniority: str) -> str:
    """One line such as ``5+ years as a data engineer, mentored juniors``."""
    held = f"as {'an' if role[0] in 'aeioH' else 'a'} {role}"  # an HR generalist
    if seniority == "junior":
        return _one(rng, (f"internship or first job {held}", f"0-2 years {held}", f"1-2 years {held}"))
    if seniority == "mid":
        return f"{rng.integers(2, 5)}+ years {held}"
    if seniority == "senior":
        return f"{rng.integers(5, 9)}+ years {held}, {_one(rng, ('mentored juniors', 'works independently'))}"
    return f"{rng.integers(8, 13)}+ years {held}, {_one(rng, ('led a team', 'managed budgets and people'))}"


def _pay(rng: np.random.Generator, occupation: Occupation, seniority: str, place: str, spread: float) -> int:
    """Yearly pay in EUR, in steps of 500."""
    usual = occupation.pay * _SENIORITY[seniority][1] * CITIES[place]
    return round(usual * rng.normal(1.0, spread) / 500) * 500


def _level(rng: np.random.Generator) -> str:
    return str(rng.choice(list(_SENIORITY), p=[share for share, _ in _SENIORITY.values()]))


def _one(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def _some(rng: np.random.Generator, items: Sequence[str], least: int, most: int) -> list[str]:
    # In the order of the vocabulary: equal choices are then equal texts, which are embedded once.
    chosen = rng.permutation(len(items))[: rng.integers(least, most + 1)]
    return [items[index] for index in sorted(chosen)]


def _made_from(path: Path, origin: bytes) -> bool:
    try:
        return (pq.read_schema(path).metadata or {}).get(b"dynaq.market") == origin
    except (pa.ArrowException, OSError):
        return False


def _write(path: Path, rows: list[dict[str, Any]], origin: bytes) -> None:
    table = pa.Table.from_pylist(rows)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with needing_room(path.parent):
            pq.write_table(table.replace_schema_metadata({b"dynaq.market": origin}), partial)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
