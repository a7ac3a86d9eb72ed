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
    for depth, key in enumerate(keys := path.split(".")):
        if isinstance(document, list):
            rest = ".".join(keys[depth:])
            return [value_at(entry, rest) for entry in document]
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def as_text(value: Any) -> str:
    """A value as a prompt shows it: lists joined by commas, booleans as yes or no, nothing as ""."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(text for entry in value if (text := as_text(entry)))
    return str(value).strip()
