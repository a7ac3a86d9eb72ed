"""Tables as streams of rows: CSV, JSON lines and Parquet give the same cells."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dynaq.errors import InputError

Row = dict[str, Any]

# MongoDB takes no document above 16 MiB, so no longer cell is of use; an unclosed quote ends here too.
csv.field_size_limit(16 * 1024 * 1024)

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?")


def read_table(path: Path, columns: Mapping[str, str], batch_rows: int) -> Iterator[list[Row]]:
    """Stream the named columns of a table, at most ``batch_rows`` rows in memory (Parquet: one row group).

    Args:
        path: a .csv (comma, header line), .jsonl (an object a line) or .parquet file; text is UTF-8.
        columns: the columns to read -> the configuration key that asked for each, for the error.
        batch_rows: rows in a batch.

    Yields:
        Lists of rows, column -> cell; None where there is none.

    Raises:
        InputError: the file is missing, of another kind, damaged or empty, or lacks a column.
    """
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is no table that can be read: it must end in {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"there is no table at {path}")
    try:
        rows = reader(path, columns)
        batch = list(islice(rows, batch_rows))
        if not batch:
            raise InputError(f"{path} has no rows")
        while batch:
            yield batch
            batch = list(islice(rows, batch_rows))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or 'the disk failed'}") from None


def _csv_rows(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    reader = csv.reader(_lines(path), strict=True)
    try:
        header = next(reader, [])
        if not header:
            return
        _require(path, header, columns)
        places = {column: header.index(column) for column in columns}
        for cells in reader:
            if not cells:  # a blank line
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path} line {reader.line_num} has {len(cells)} cells where the header has {len(header)}"
                )
            yield {column: _typed(cells[place]) for column, place in places.items()}
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num} is not valid CSV: {error}") from None


def _typed(cell: str) -> str | int | float | None:
    """CSV knows no types: what a number would print as is that number, as in other formats; 007 is not."""
    if not cell:
        return None
    if _NUMBER.fullmatch(cell):
        number = float(cell) if "." in cell else int(cell)
        if str(number) == cell:
            return number
    return cell


def _jsonl_rows(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    # Rows may leave out keys, so a column is missing only if no row has it; the first row mostly settles it.
    keys: dict[str, None] = {}
    for row in _json_objects(path):
        keys.update(dict.fromkeys(row))
        if columns.keys() <= keys.keys():
            break
    if keys:
        _require(path, keys, columns)
    for row in _json_objects(path):
        yield {column: row.get(column) for column in columns}


def _json_objects(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path} line {number} is not valid JSON: {error}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number} must be a JSON object, found {type(row).__name__}")
        yield row


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{path} line {number} is not UTF-8 text; convert the file first") from None


def _parquet_rows(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    read = 0
    try:
        with pq.ParquetFile(path) as file:
            _require(path, file.schema_arrow.names, columns)
            for batch in file.iter_batches(batch_size=1000, columns=list(columns)):
                yield from batch.to_pylist()
                read += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        where = f" after row {read}" if read else ""
        raise InputError(f"{path} is damaged or no Parquet file{where}; write it again") from None


def _require(path: Path, present: Collection[str], columns: Mapping[str, str]) -> None:
    for column, key in columns.items():
        if column not in present:
            raise InputError(f"{key} names the column {column!r}, but {path} has only {', '.join(present)}")
        if list(present).count(column) > 1:
            raise InputError(f"{key} names the column {column!r}, which {path} has more than once")
