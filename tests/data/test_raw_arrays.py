"""Arrays cut out of documents: what is left is what the driver makes of it, whatever else lies beside them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp, decode, encode
from bson.binary import Binary
from bson.code import Code
from bson.codec_options import DEFAULT_CODEC_OPTIONS

from dynaq.data.raw_arrays import decode_array, decode_documents

OF_EVERY_TYPE: dict[str, Any] = {
    "_id": ObjectId("5f" * 12),
    "double": 1.5,
    "text": "naïve \x00 text",
    "document": {"v": [1.0, 2.0], "deeper": {"v": []}},
    "array": [1.0, [2.0], {"v": [3.0]}],
    "binary": Binary(b"\x04v\x00", 5),
    "boolean": True,
    "date": datetime(2024, 5, 1, tzinfo=UTC).replace(tzinfo=None),
    "null": None,
    "regex": re.compile("^v.*\\.$", re.IGNORECASE),
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


@pytest.mark.parametrize("place", range(len(OF_EVERY_TYPE) + 1))
def test_what_is_left_is_what_the_driver_decodes(place: int) -> None:
    fields = list(OF_EVERY_TYPE.items())
    whole = dict([*fields[:place], ("v", [0.5, 1, "two", None]), *fields[place:], ("w", []), ("naïve", [1.0])])
    wire = encode(whole)
    plain, cut = decode_documents([encode({"v": 3}), wire], ["v", "w", "naïve", "document.v"], DEFAULT_CODEC_OPTIONS)
    assert plain == {"v": 3}
    assert {name: decode_array(cut.pop(name)) for name in ("v", "w", "naïve")} == {
        "v": [0.5, 1, "two", None],
        "w": [],
        "naïve": [1.0],
    }
    left = decode(wire)
    for name in ("v", "w", "naïve"):
        del left[name]
    assert str(cut) == str(left)  # patterns are equal to themselves alone


def test_other_fields_are_left_alone() -> None:
    assert decode_documents([encode(OF_EVERY_TYPE)], ["v"], DEFAULT_CODEC_OPTIONS)[0]["array"] == [
        1.0,
        [2.0],
        {"v": [3.0]},
    ]
    assert decode_documents([], ["v"], DEFAULT_CODEC_OPTIONS) == []
