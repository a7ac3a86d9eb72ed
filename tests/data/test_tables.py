"""Three formats, one reading; and every way in which a table can be unreadable."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dynaq.data.tables import read_table
from dynaq.errors import InputError

ASKED = {"id": "ingest.jobs.id", "title": "ingest.jobs.columns.title", "pay": "ingest.jobs.attributes.pay"}


def rows(path: Path, columns: dict[str, str] = ASKED) -> list[dict]:
    return [row for batch in read_table(path, columns, batch_rows=2) for row in batch]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_formats_give_the_same_cells(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "007", "c"],
            "title": ["Cook, pastry", 'the "chef"\nof two lines', None],
            "pay": [31000.5, None, 28000.0],
            "ignored": [1, 2, 3],
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "t.parquet")

    from_csv, from_jsonl = rows(tmp_path / "t.csv"), rows(tmp_path / "t.jsonl")
    from_parquet = [
        {key: None if value != value else value for key, value in row.items()} for row in rows(tmp_path / "t.parquet")
    ]
    assert from_csv == from_jsonl == from_parquet
    assert from_csv[1] == {"id": "007", "title": 'the "chef"\nof two lines', "pay": None}


def test_batches_are_bounded(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "id\n" + "\n".join(map(str, range(5))))
    assert [len(batch) for batch in read_table(path, {"id": "ingest.jobs.id"}, batch_rows=2)] == [2, 2, 1]


def test_a_jsonl_key_may_come_late_and_the_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", '\ufeff{"id": 1, "title": "a"}\n\n{"id": 2, "pay": 5}\n')
    assert rows(path) == [{"id": 1, "title": "a", "pay": None}, {"id": 2, "title": None, "pay": 5}]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_missing_column_names_the_key_and_what_there_is(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"id": ["a"], "job_title": ["Cook"], "pay": [1]})
    path = tmp_path / f"t{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    with pytest.raises(InputError, match=r"ingest\.jobs\.columns\.title.*'title'.*id, job_title, pay"):
        rows(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", "id", r"must end in \.csv, \.jsonl, \.parquet"),
        ("t.csv", "", "no rows"),
        ("t.csv", "id,title,pay\n", "no rows"),
        ("t.csv", "id,title,pay\n1,a,2\n2,b\n", "line 3 has 2 cells where the header has 3"),
        ("t.csv", 'id,title,pay\n1,"never closed,2\n3,b,4\n', "not valid CSV"),
        ("t.csv", b"id,title,pay\n1,caf\xe9,2\n", "line 2 is not UTF-8"),
        ("t.csv", "id,title,pay,title\n1,a,2,b\n", "more than once"),
        ("t.jsonl", "\n\n", "no rows"),
        ("t.jsonl", '{"id": 1, "title": "a", "pay": 2}\n{"id": 2,\n', "line 2 is not valid JSON"),
        ("t.jsonl", '{"id": 1, "title": "a", "pay": 2}\n[3]\n', "line 2 must be a JSON object, found list"),
        ("t.parquet", "PAR1 this is none PAR1", "damaged or no Parquet file"),
    ],
)
def test_unreadable_tables(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rows(write(tmp_path / name, content))


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no table at"):
        rows(tmp_path / "absent.csv")
    pd.DataFrame({"id": [], "title": [], "pay": []}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="no rows"):
        rows(tmp_path / "t.parquet")


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_truncated_parquet(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"id": range(5000), "title": "x", "pay": 1.5}).to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match="damaged"):
        rows(path)


def test_parquet_damaged_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"id": [f"job {n}" for n in range(5000)], "title": "x", "pay": 1.5}).to_parquet(path)
    content = bytearray(path.read_bytes())
    content[4:4000] = b"\xff" * 3996
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        rows(path)
