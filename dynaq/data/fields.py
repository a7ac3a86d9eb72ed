"""Fields of MongoDB documents by dotted path: asking for them, reading them, turning them into text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def projection(paths: Iterable[str]) -> dict[str, int]:
    """The projection that fetches just these paths, and ``_id``.

    MongoDB refuses a path beside one that holds it (``place`` and ``place.city``): the outer one is enough.
    """
    wanted = {"_id", *paths}
    outer = [path for path in wanted if not any(path.startswith(f"{other}.") for other in wanted)]
    return dict.fromkeys(sorted(outer), 1)


def value_at(document: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none; through a list it is the list of its values."""
    if isinstance(document, dict):
        key, _, rest = path.partition(".")
        return value_at(document.get(key), rest) if rest else document.get(key)
    return [value_at(entry, path) for entry in document] if isinstance(document, list) else None


def values_at(documents: Iterable[dict[str, Any]], path: str) -> list[Any]:
    """The value at a dotted path in each of many documents."""
    if "." in path:
        return [value_at(document, path) for document in documents]
    return [document.get(path) for document in documents]


def as_text(value: Any) -> str:
    """A value as a prompt shows it: lists joined by commas, booleans as yes or no, nothing as ""."""
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(text for entry in value if (text := as_text(entry)))
    return str(value).strip()


def as_id(cell: object) -> str:
    """An id of a table as ingest writes it: pandas makes floats of integers next to a gap."""
    return as_text(int(cell) if isinstance(cell, float) and cell.is_integer() else cell)
