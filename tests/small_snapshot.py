"""A small snapshot written by hand: 60 applicants and 80 jobs of six trades, 16 numbers a vector."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dynaq.artifacts import publish
from dynaq.data.manifest import MANIFEST, SIDES, Cosine, FileRecord, Manifest, Side, ids_file, texts_file, vectors_file
from dynaq.data.snapshot import Snapshot, open_snapshot

TRADES, WORDS, DIMENSION = 6, 10, 16
ROWS: dict[Side, int] = {"applicants": 60, "jobs": 80}
FIELDS: dict[Side, list[str]] = {"applicants": ["hard_skills"], "jobs": ["title", "skills"]}
PLACES = ("Oslo", "Bergen", "Tromso")
LEVELS = ("junior", "mid", "senior")


@pytest.fixture(scope="session")
def small_snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Read-only: whoever damages it copies the directory first. A text is a few words of one trade, a vector the
    mean of its words' vectors, and the words of a trade lie near each other."""
    chance = np.random.default_rng(0)
    trades = chance.normal(size=(TRADES, 1, DIMENSION))
    vocabulary = trades + 0.7 * chance.normal(size=(TRADES, WORDS, DIMENSION))
    path = tmp_path_factory.mktemp("snapshots") / "small"
    with publish(path) as directory:
        for side in SIDES:
            _write_side(directory, side, vocabulary, chance)
        (directory / MANIFEST).write_text(_manifest(directory).model_dump_json())
    return open_snapshot(path, verify=True)


def _write_side(directory: Path, side: Side, vocabulary: np.ndarray, chance: np.random.Generator) -> None:
    vectors, texts = [], []
    for _ in range(ROWS[side]):
        trade = chance.integers(TRADES)
        words = {field: chance.choice(WORDS, size=4, replace=False) for field in FIELDS[side]}
        vectors.append(np.concatenate([vocabulary[trade, chosen].mean(axis=0) for chosen in words.values()]))
        texts.append(
            {field: " ".join(f"trade{trade}word{word}" for word in chosen) for field, chosen in words.items()}
            | {"place": str(chance.choice(PLACES)), "seniority": str(chance.choice(LEVELS))}
        )
    np.array(vectors, dtype=np.float32).tofile(directory / vectors_file(side))
    (directory / ids_file(side)).write_text(json.dumps([f"{side}-{row}" for row in range(ROWS[side])]))
    (directory / texts_file(side)).write_text("".join(json.dumps(text) + "\n" for text in texts))


def _manifest(directory: Path) -> Manifest:
    manifest = Manifest(
        digest="",
        created="2025-01-01T00:00:00+00:00",
        database="toy",
        collections={},
        job_fields=FIELDS["jobs"],
        applicant_fields=FIELDS["applicants"],
        job_vectors=FIELDS["jobs"],
        applicant_vectors=FIELDS["applicants"],
        dimension=DIMENSION,
        jobs=ROWS["jobs"],
        applicants=ROWS["applicants"],
        cosine=Cosine(kind="pairs", pairs=[["hard_skills", "skills"], ["hard_skills", "title"]]),
        encoders={side: {"toy": ROWS[side]} for side in SIDES},
        generated={"applicants": 0, "jobs": 0},
        quarantined={},
        without_text={"applicants": 0, "jobs": 0},
        labelled={side: dict.fromkeys((*FIELDS[side], "place", "seniority"), ROWS[side]) for side in SIDES},
        files={path.name: FileRecord.of(path) for path in sorted(directory.iterdir())},
    )
    return manifest.model_copy(update={"digest": manifest.content_digest()})
