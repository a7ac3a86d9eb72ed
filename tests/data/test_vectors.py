"""Vectors in MongoDB's two forms: exact both ways, a reason for every unusable value, and fast binaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bson import decode, encode
from bson.binary import Binary, BinaryVectorDtype
from bson.codec_options import DEFAULT_CODEC_OPTIONS

from dynaq.data.alike import decode_batch
from dynaq.data.vectors import decode_vectors, encode_vector


def decoded(values: list[Any], dimension: int = 4) -> tuple[Any, list[tuple[int, str]]]:
    """Decode values as they come from the wire; together, and one by one as the driver has decoded them."""
    wire = [encode({} if value is None else {"v": value}) for value in values]
    rows, problems = decode_vectors([decode(each).get("v") for each in wire], dimension)
    together = decode_batch(b"".join(wire), ["v"], dimension, DEFAULT_CODEC_OPTIONS)
    assert together.problems == {index: ("v", reason) for index, reason in problems}
    usable = [index for index in range(len(values)) if index not in together.problems]
    np.testing.assert_array_equal(together.rows[usable, 0], rows[usable])
    return rows, problems


ROWS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def test_encoding_is_the_bson_vector_of_the_specification() -> None:
    expected = Binary.from_vector(ROWS[0].tolist(), BinaryVectorDtype.FLOAT32)
    assert encode_vector(ROWS[0]) == expected
    assert decode(encode({"v": encode_vector(ROWS[0])}))["v"] == expected


@pytest.mark.parametrize(
    "form",
    [
        lambda index, row: encode_vector(row),
        lambda index, row: row.astype(float).tolist(),
        lambda index, row: encode_vector(row) if index % 2 else row.astype(float).tolist(),
    ],
    ids=["binary", "array", "mixed"],
)
def test_both_forms_give_the_same_floats(form: Callable[[int, Any], Any]) -> None:
    rows, problems = decoded([form(index, row) for index, row in enumerate(ROWS)])
    assert problems == []
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, ROWS)


def test_integers_and_booleans_are_numbers_whatever_lies_beside_them() -> None:
    values = [[1, 2, 3, 4], [True, False, True, True], [2**60 + 2**36 + 1, 1, 0, -1], [1.5, 2, 3, True]]
    together, problems = decoded(values)
    assert problems == []
    np.testing.assert_array_equal(together[[0, 1, 3]], [[1, 2, 3, 4], [1, 0, 1, 1], [1.5, 2, 3, 1]])
    np.testing.assert_array_equal(together, np.vstack([decoded([value])[0] for value in values]))


NAN = np.array([1, np.nan, 0, 0], dtype=np.float32)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing"),
        ("1 2 3 4", "bad type"),
        ({"0": 1.0}, "bad type"),
        (b"\x27\x00" + bytes(16), "bad type"),  # no vector subtype
        (Binary.from_vector([1, 2, 3, 4], BinaryVectorDtype.INT8), "bad type"),
        (Binary(b"\x27", 9), "bad type"),
        (Binary(bytes(encode_vector(ROWS[0]))[:-1], 9), "bad type"),  # cut within a number
        (["1", "2", "3", "4"], "bad type"),
        ([1.0, 2.0, 3.0, None], "bad type"),
        ([1.0, 2.0, 3.0, [4.0]], "bad type"),
        ([[1.0]] * 4, "bad type"),
        ([], "wrong size 0"),
        ([1.0] * 3, "wrong size 3"),
        (encode_vector(np.ones(5, dtype=np.float32)), "wrong size 5"),
        (NAN.astype(float).tolist(), "not finite"),
        (encode_vector(NAN), "not finite"),
        (encode_vector(np.full(4, np.inf, dtype=np.float32)), "not finite"),
        ([1e300, 0.0, 0.0, 0.0], "not finite"),
        ([1e30, 0.0, 0.0, 0.0], "not finite"),  # its norm overflows
        ([0.0] * 4, "zero norm"),
        (encode_vector(np.zeros(4, dtype=np.float32)), "zero norm"),
        ([1e-60, 0.0, 0.0, 0.0], "zero norm"),  # nothing is left of it in float32
    ],
)
def test_unusable_values_have_a_reason_and_spare_the_rest(value: Any, reason: str) -> None:
    good_array, good_binary = ROWS[0].astype(float).tolist(), encode_vector(ROWS[1])
    rows, problems = decoded([good_array, value, good_binary, value])
    assert problems == [(1, reason), (3, reason)]
    np.testing.assert_array_equal(rows[[0, 2]], ROWS[:2])


def test_nothing_to_decode() -> None:
    rows, problems = decoded([])
    assert rows.shape == (0, 4)
    assert problems == []
