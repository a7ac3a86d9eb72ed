"""Documents decoded together are what the driver makes of each, whatever lies beside their vectors."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp, decode, encode
from bson.binary import Binary
from bson.code import Code
from bson.codec_options import DEFAULT_CODEC_OPTIONS

from dynaq.data.alike import Decoded, decode_batch
from dynaq.data.vectors import decode_vectors, encode_vector

OF_EVERY_TYPE: dict[str, Any] = {  # but a regular expression, which sends its document to the driver whole
    "_id": ObjectId("5f" * 12),
    "double": 1.5,
    "text": "naïve \x00 text",
    "document": {"v": [1.0, 2.0], "deeper": {"v": []}},
    "array": [1.0, [2.0], {"v": [3.0]}],
    "binary": Binary(b"\x04v\x00", 5),
    "boolean": True,
    "date": datetime(2024, 5, 1, tzinfo=UTC).replace(tzinfo=None),
    "null": None,
    "code": Code("return 1"),
    "scoped": Code("return v", {"v": [1.0]}),
    "int": 7,
    "long": Int64(2**40),
    "timestamp": Timestamp(1, 2),
    "decimal": Decimal128("1.50"),
    "reference": DBRef("jobs", 3),
    "least": MinKey(),
    "most": MaxKey(),
}


VECTORS = {
    "binary": encode_vector,
    "array": lambda row: row.astype(float).tolist(),
}
ROWS = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)


def cut(documents: list[dict[str, Any]], fields: list[str]) -> Decoded:
    return decode_batch(b"".join(map(encode, documents)), fields, 12, DEFAULT_CODEC_OPTIONS)


@pytest.mark.parametrize("form", VECTORS)
@pytest.mark.parametrize("place", range(len(OF_EVERY_TYPE) + 1))
def test_what_is_left_is_what_the_driver_decodes(place: int, form: str) -> None:
    fields, vector = list(OF_EVERY_TYPE.items()), VECTORS[form]
    documents = [
        dict([*fields[:place], ("v", vector(first)), *fields[place:], ("w", vector(second))])
        for first, second in ROWS[:20].reshape(10, 2, 12)
    ]
    found = cut(documents, ["w", "v"])
    assert found.problems == {}
    np.testing.assert_array_equal(found.rows[:, ::-1], ROWS[:20].reshape(10, 2, 12))
    left = {name: value for name, value in decode(encode(documents[0])).items() if name not in ("v", "w")}
    assert [str(document) for document in found.documents] == [str(left)] * 10
    assert list(found.documents[0]) == list(left)


@pytest.mark.parametrize("form", VECTORS)
def test_documents_of_any_other_form_are_read_as_well(form: str) -> None:
    """Each beside the same good ones, of its own length or of theirs: other names, types, order, values within."""
    vector, (good, other) = VECTORS[form], ROWS[:2]
    odd: list[dict[str, Any]] = [
        {"_id": 1, "a": "x", "v": vector(other)},
        {"_id": 1, "b": "xy", "v": vector(other)},
        {"_id": 1, "a": Binary(b"xy", 7), "v": vector(other)},
        {"_id": 1, "v": vector(other), "a": "xy"},
        {"v": vector(other), "_id": 1, "a": "xy"},
        {"_id": Int64(1), "a": "xy", "v": vector(other)},
        {"_id": 1, "a": "xy", "v": other.astype(float).tolist()},
        {"_id": 1, "a": "xy", "v": [*other[1:].astype(float).tolist(), 1]},
        {"_id": 1, "a": "xy", "v": encode_vector(other)},
        {"_id": 1, "a": re.compile("v"), "v": vector(other)},
        {"_id": 1, "a": "x\x00y", "v": vector(other)},
        {"_id": 1, "a": {"v": vector(good)}, "v": vector(other)},
    ]
    for document in odd:
        for place in (0, 1, 2):
            documents = [{"_id": number, "a": "xy", "v": vector(good)} for number in range(2)]
            documents.insert(place, document)
            found = cut(documents, ["v"])
            whole = [decode(encode(each)) for each in documents]
            expected, problems = decode_vectors([each["v"] for each in whole], 12)
            np.testing.assert_array_equal(found.rows[:, 0], expected)
            assert (found.problems, problems) == ({}, [])
            for each in (*found.documents, *whole):
                each.pop("v", None)
            assert list(map(str, found.documents)) == list(map(str, whole))


def test_ids_of_any_length_keep_their_order() -> None:
    rows = np.tile(ROWS, (20, 1))  # several tables
    ids = ["j" * (1 + number * 7 % 5) for number in range(len(rows))]
    documents = [{"_id": each, "n": number, "v": encode_vector(rows[number])} for number, each in enumerate(ids)]
    found = cut(documents, ["v"])
    np.testing.assert_array_equal(found.rows[:, 0], rows)
    assert [(each["_id"], each["n"]) for each in found.documents] == list(zip(ids, range(len(rows)), strict=True))


def test_a_vector_that_lies_deeper_is_found() -> None:
    found = cut([{"v": {"title": encode_vector(row)}} for row in ROWS], ["v.title"])
    np.testing.assert_array_equal(found.rows[:, 0], ROWS)


def test_the_first_field_without_a_vector_is_named() -> None:
    good = encode_vector(ROWS[0])
    found = cut([{"v": good, "w": good}, {"v": "no", "w": None}, {"v": good, "w": [0.0] * 12}], ["v", "w"])
    assert found.problems == {1: ("v", "bad type"), 2: ("w", "zero norm")}
    np.testing.assert_array_equal(found.rows[0], ROWS[[0, 0]])


def test_nothing_to_decode() -> None:
    found = cut([], ["v"])
    assert (found.documents, found.rows.shape, found.problems) == ([], (0, 1, 12), {})
