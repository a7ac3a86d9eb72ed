"""Tables into MongoDB: a row of postings or applicants becomes a text document, written if it changed."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from dynaq.config import TableConfig
from dynaq.config_file import expand_environment
from dynaq.data.connection import mongo_errors
from dynaq.data.fields import as_text, projection, value_at
from dynaq.data.tables import Row, read_table
from dynaq.errors import ConfigError

Document = dict[str, Any]

_BATCH_ROWS = 1000
_MAX_EXAMPLES = 100
_MAX_BYTES = 15 * 1024 * 1024  # MongoDB's bound is 16 MiB of BSON; ours is measured in JSON

_RESERVED = ("_id", "content_hash", "generated")


@dataclass(frozen=True)
class IngestReport:
    """What became of the rows of one table; ``dataclasses.asdict`` makes it JSON.

    Attributes:
        read: rows of the table, = written + unchanged + all rejected.
        written: documents inserted or changed.
        unchanged: rows whose document already lay there.
        rejected: reason -> rows that could not become a document.
        examples: the first rejected rows as {row, id, reason}; rows count from 1 below the header.
    """

    read: int
    written: int
    unchanged: int
    rejected: dict[str, int]
    examples: list[dict[str, Any]]


def load_documents(
    database: Database[Document], collection_name: str, table: TableConfig, *, section: str, generated: bool
) -> IngestReport:
    """Upsert each row of a table as {_id, text fields, attributes, content_hash, generated}.

    Fields of stored documents that the table does not map are left as they are. A row that cannot become a
    document is counted and never stops the load; of rows with one id, the first counts.

    Args:
        database: where to write.
        collection_name: the collection of postings or of applicants.
        table: the file and which column feeds which field.
        section: the configuration key of ``table``, such as ``ingest.jobs``, for errors.
        generated: whether the rows were made up by the demo market; kept with each document.

    Raises:
        ConfigError: a field cannot be called that.
        InputError: the table cannot be read, see `read_table`.
        TransientError: MongoDB did not answer.
    """
    _check_names(table, section)
    collection = database[collection_name]
    read = written = unchanged = 0
    rejected: Counter[str] = Counter()
    examples: list[dict[str, Any]] = []
    seen: set[str] = set()
    for rows in read_table(expand_environment(table.path), _asked_by(table, section), _BATCH_ROWS):
        documents = []
        for row in rows:
            read += 1
            document, size = _document(row, table, generated)
            if reason := _problem(document, size, table, seen):
                rejected[reason] += 1
                if len(examples) < _MAX_EXAMPLES:
                    examples.append({"row": read, "id": document["_id"], "reason": reason})
                continue
            seen.add(document["_id"])
            documents.append(document)
        changed = _write_changed(collection, documents, [*table.columns, *table.attributes])
        written += changed
        unchanged += len(documents) - changed
    return IngestReport(read, written, unchanged, dict(rejected), examples)


def forget_other_generated(
    database: Database[Document], text_collection: str, vector_collection: str, id_field: str, table: TableConfig
) -> int:
    """Delete what an earlier generated market left: generated documents whose id is not in the table.

    Documents that are not ``generated: true`` are never touched.

    Args:
        database: where both collections lie.
        text_collection: the collection of postings or of applicants.
        vector_collection: the collection with their vectors.
        id_field: its field with the ``_id`` of the text document.
        table: the table of the market that stays.

    Returns:
        Documents deleted, texts and vectors together.

    Raises:
        InputError: the table cannot be read, see `read_table`.
        TransientError: MongoDB did not answer.
    """
    batches = read_table(expand_environment(table.path), {table.id: "id"}, _BATCH_ROWS)
    kept = {as_text(_plain(row[table.id])) for rows in batches for row in rows}
    deleted = 0
    with mongo_errors():
        for name, field in ((vector_collection, id_field), (text_collection, "_id")):
            found = database[name].find({"generated": True}, projection([field]))
            others = [document["_id"] for document in found if value_at(document, field) not in kept]
            for start in range(0, len(others), _BATCH_ROWS):
                batch = others[start : start + _BATCH_ROWS]
                deleted += database[name].delete_many({"_id": {"$in": batch}, "generated": True}).deleted_count
    return deleted


def _plain(value: Any) -> str | int | float | bool | None:
    """A cell as MongoDB shall keep it, the same whichever file format it came from.

    None, NaN and blank text are None; 123.0 is 123, because pandas makes floats of integers next to a gap.
    """
    if isinstance(value, bytes):  # Parquet files of older writers do not mark text as text
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        # Half a surrogate pair is legal in JSON and impossible in BSON.
        return value.strip().encode("utf-8", "replace").decode("utf-8") or None
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    if isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, (as_text(_plain(entry)) for entry in value))) or None
    return str(value)  # dates, decimals, ids of other systems


def _check_names(table: TableConfig, section: str) -> None:
    for name in (*table.columns, *table.attributes):
        if name in _RESERVED:
            raise ConfigError(f"{section} maps a field {name!r}, which dynaq writes itself; rename it")
        if name.startswith("$") or "." in name:
            raise ConfigError(f"{section} maps a field {name!r}; MongoDB forbids '.' and a leading '$'")
    if twice := sorted(table.columns.keys() & table.attributes.keys()):
        raise ConfigError(f"{section} maps {', '.join(twice)} both as columns and as attributes; choose one")


def _asked_by(table: TableConfig, section: str) -> dict[str, str]:
    """Column -> the configuration key that names it."""
    asked = {column: f"{section}.attributes.{field}" for field, column in table.attributes.items()}
    for field, columns in table.columns.items():
        asked.update(dict.fromkeys(columns, f"{section}.columns.{field}"))
    return {**asked, table.id: f"{section}.id"}


def _identity(value: Any) -> str | None:
    """An id as text; a missing one that a program wrote out as a word is missing all the same."""
    text = as_text(_plain(value))
    return None if text is None or text.lower() in {"nan", "none", "null"} else text


def _document(row: Row, table: TableConfig, generated: bool) -> tuple[Document, int]:
    """The document of a row and its size in bytes of JSON."""
    fields: Document = {
        field: "\n".join(filter(None, (as_text(_plain(row[column])) for column in columns)))
        for field, columns in table.columns.items()
    }
    fields |= {field: _plain(row[column]) for field, column in table.attributes.items()}
    document = {
        "_id": _identity(row[table.id]),
        **{field: value for field, value in fields.items() if value not in ("", None)},
        "generated": generated,
    }
    content = json.dumps(document, sort_keys=True, ensure_ascii=False).encode()
    return {**document, "content_hash": hashlib.sha256(content).hexdigest()}, len(content)


def _problem(document: Document, size: int, table: TableConfig, seen: set[str]) -> str | None:
    if not document["_id"]:
        return "no id"
    if document["_id"] in seen:
        return "duplicate id"
    if not any(field in document for field in table.columns):
        return "no text in any field"
    return "larger than 15 MiB" if size > _MAX_BYTES else None


def _write_changed(collection: Collection[Document], documents: Sequence[Document], fields: Sequence[str]) -> int:
    """Upsert the documents whose stored hash differs, dropping mapped fields that are gone; how many."""
    with mongo_errors():
        ids = [document["_id"] for document in documents]
        stored = {
            found["_id"]: found.get("content_hash")
            for found in collection.find({"_id": {"$in": ids}}, {"content_hash": 1})
        }
        writes = []
        for document in documents:
            if stored.get(document["_id"]) == document["content_hash"]:
                continue
            change: Document = {"$set": {key: value for key, value in document.items() if key != "_id"}}
            if gone := [field for field in fields if field not in document]:
                change["$unset"] = dict.fromkeys(gone, "")
            writes.append(UpdateOne({"_id": document["_id"]}, change, upsert=True))
        if writes:
            collection.bulk_write(writes, ordered=False)
    return len(writes)
