"""Dotted paths into documents, and values as text."""

from __future__ import annotations

import math
from typing import Any

import pytest
from bson import ObjectId

from dynaq.data.fields import as_text, projection, value_at


def test_a_projection_has_no_path_within_another() -> None:
    assert projection(["place.city", "place", "placement", "pay.floor"]) == {
        "_id": 1,
        "pay.floor": 1,
        "place": 1,
        "placement": 1,
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("pay", {"floor": 3}),
        ("pay.floor", 3),
        ("pay.ceiling", None),
        ("pay.floor.deeper", None),
        ("skills.name", ["python", "sql"]),
        ("nowhere", None),
    ],
)
def test_values_by_dotted_path(path: str, value: Any) -> None:
    document = {"pay": {"floor": 3}, "skills": [{"name": "python"}, {"name": "sql"}]}
    assert value_at(document, path) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.nan, ""),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (2.5, "2.5"),
        ("  welder \n", "welder"),
        (["sql", None, " ", "git", True], "sql, git, yes"),
        (ObjectId("5f" * 12), "5f" * 12),
    ],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert as_text(value) == text
