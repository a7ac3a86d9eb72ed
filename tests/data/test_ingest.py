"""Tables into a real MongoDB: what is written, what is left alone, what is turned away."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pymongo.database import Database

from dynaq.config import TableConfig
from dynaq.data.ingest import IngestReport, forget_other_generated, load_documents
from dynaq.errors import ConfigError, InputError

ROWS = [
    {"key": "a", "name": "Cook", "must": "grill", "nice": "pastry", "city": "Paris", "pay": 31000},
    {"key": "b", "name": " Nurse ", "must": "triage", "nice": None, "city": None, "pay": 38000},
    {"key": "c", "name": None, "must": "wiring", "nice": "  ", "city": "Lyon", "pay": 37000.5},
]


def table(path: Path, **changes: Any) -> TableConfig:
    knobs: dict[str, Any] = {
        "path": str(path),
        "id": "key",
        "columns": {"title": ["name"], "skills": ["must", "nice"]},
        "attributes": {"place": "city", "pay": "pay"},
    }
    return TableConfig(**{**knobs, **changes})


def load(database: Database, path: Path, **changes: Any) -> IngestReport:
    return load_documents(database, "all_jobs", table(path, **changes), section="ingest.jobs", generated=False)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pd.DataFrame(rows).to_parquet(path)
    return path


def stored(database: Database, collection: str = "all_jobs") -> list[dict[str, Any]]:
    return list(database[collection].find().sort("_id"))


def test_rows_become_documents(database: Database, tmp_path: Path) -> None:
    report = load(database, write(tmp_path / "t.parquet", ROWS))
    assert report == IngestReport(read=3, written=3, unchanged=0, rejected={}, examples=[])
    documents = stored(database)
    hashes = [document.pop("content_hash") for document in documents]
    assert len(set(hashes)) == 3
    assert documents == [
        {
            "_id": "a",
            "title": "Cook",
            "skills": "grill\npastry",
            "place": "Paris",
            "pay": 31000,
            "generated": False,
        },
        {"_id": "b", "title": "Nurse", "skills": "triage", "pay": 38000, "generated": False},
        {"_id": "c", "skills": "wiring", "place": "Lyon", "pay": 37000.5, "generated": False},
    ]


def test_formats_give_the_same_documents(database: Database, tmp_path: Path) -> None:
    # The second id column holds numbers, which pandas makes floats of because one is missing.
    rows = [{**row, "key": key} for row, key in zip(ROWS, (123, 7, None), strict=True)]
    for suffix in ("csv", "jsonl", "parquet"):
        path = write(tmp_path / f"t.{suffix}", rows)
        report = load_documents(database, suffix, table(path), section="ingest.jobs", generated=False)
        assert report.rejected == {"no id": 1}
    assert [document["_id"] for document in stored(database, "csv")] == ["123", "7"]
    assert stored(database, "csv") == stored(database, "jsonl") == stored(database, "parquet")


def test_second_load_writes_only_what_changed(database: Database, tmp_path: Path) -> None:
    load(database, write(tmp_path / "t.jsonl", ROWS))
    database["all_jobs"].update_one({"_id": "a"}, {"$set": {"clicks": 5}})
    again = load(database, tmp_path / "t.jsonl")
    assert (again.written, again.unchanged) == (0, 3)

    changed = [{**ROWS[0], "nice": None, "city": None}, *ROWS[1:]]
    third = load(database, write(tmp_path / "t.jsonl", changed))
    assert (third.written, third.unchanged) == (1, 2)
    first = stored(database)[0]
    assert first["skills"] == "grill"
    assert "place" not in first
    assert first["clicks"] == 5  # not ours, left alone


def test_bad_rows_are_counted_and_listed(database: Database, tmp_path: Path) -> None:
    bad = [{**ROWS[0], "key": None}, {**ROWS[0], "name": "Baker"}, {"key": "d", "pay": 1}]
    report = load(database, write(tmp_path / "t.jsonl", [*ROWS, *bad]))
    assert report.rejected == {"no id": 1, "duplicate id": 1, "no text in any field": 1}
    assert report.examples == [
        {"row": 4, "id": "", "reason": "no id"},
        {"row": 5, "id": "a", "reason": "duplicate id"},
        {"row": 6, "id": "d", "reason": "no text in any field"},
    ]
    assert report.read == report.written + sum(report.rejected.values()) == 6
    assert stored(database)[0]["title"] == "Cook"  # the first of two counts
    assert json.loads(json.dumps(asdict(report)))["read"] == 6


def test_examples_are_bounded(database: Database, tmp_path: Path) -> None:
    report = load(database, write(tmp_path / "t.jsonl", [*ROWS, *[{"pay": 1}] * 2500]))
    assert report.rejected == {"no id": 2500}
    assert len(report.examples) == 100


def test_odd_cells_are_stored(database: Database, tmp_path: Path) -> None:
    rows = [
        {
            "key": "a",
            "name": ["SQL", None, "dbt"],
            "must": "\ud83d",
            "nice": "",
            "city": True,
            "pay": float("nan"),
        },
        {"key": "b", "name": 5.0, "must": None, "nice": None, "city": 2**70, "pay": float("inf")},
    ]
    load(database, write(tmp_path / "t.jsonl", rows))
    first, second = stored(database)
    assert (first["title"], first["skills"], first["place"]) == ("SQL, dbt", "?", True)
    assert (second["title"], second["place"]) == ("5", str(2**70))
    assert "pay" not in first.keys() | second.keys()


def test_path_from_the_environment(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "t.csv", ROWS)
    monkeypatch.setenv("TABLES", str(tmp_path))
    assert load(database, Path("${TABLES}/t.csv")).written == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {"_id": ["name"]}}, "ingest.jobs maps a field '_id'"),
        ({"attributes": {"generated": "city"}}, "ingest.jobs maps a field 'generated'"),
        ({"attributes": {"content_hash": "city"}}, "ingest.jobs maps a field 'content_hash'"),
        ({"columns": {"a.b": ["name"]}}, "MongoDB forbids"),
        ({"attributes": {"title": "city"}}, "title both as columns and as attributes"),
    ],
)
def test_field_names_that_cannot_be(database: Database, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(database, write(tmp_path / "t.csv", ROWS), **changes)


def test_mapping_that_names_no_column(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ROWS)
    with pytest.raises(InputError, match=r"ingest\.jobs\.columns\.skills names the column 'skill'"):
        load(database, path, columns={"skills": ["must", "skill"]})
    with pytest.raises(InputError, match=r"ingest\.jobs\.id names the column 'job_id'"):
        load(database, path, id="job_id")
    assert stored(database) == []


def test_a_smaller_market_leaves_nothing_of_the_one_before(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", ROWS[:1])
    for key, generated in (("a", True), ("b", True), ("own", False)):
        database["texts"].insert_one({"_id": key, "generated": generated})
        database["vectors"].insert_one({"_id": f"vector {key}", "of": key, "generated": generated})
    for collection in ("texts", "vectors"):
        database[collection].insert_one({"_id": "unmarked", "of": "unmarked"})
    assert forget_other_generated(database, "texts", "vectors", "of", table(path)) == 2
    assert [document["_id"] for document in stored(database, "texts")] == ["a", "own", "unmarked"]
    assert [document["of"] for document in stored(database, "vectors")] == ["unmarked", "a", "own"]
    assert forget_other_generated(database, "texts", "vectors", "of", table(path)) == 0
