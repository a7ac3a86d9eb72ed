"""Vectors as MongoDB keeps them: BSON Binary vectors are written, arrays of numbers are read too.

A BSON vector is a Binary of subtype 9 whose payload opens with two bytes, the element type and the padding,
followed by the elements in little-endian order (https://bsonspec.org, "BSON Binary Subtype 9 - Vector"). An array
has before each number its type and its index in decimal digits, so that the doubles lie at fixed places, too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import bson
import numpy as np
from bson.binary import VECTOR_SUBTYPE, Binary
from numpy.typing import NDArray

from dynaq.data.raw_arrays import decode_array

_FLOAT32 = b"\x27\x00"


def encode_vector(row: NDArray[np.float32]) -> Binary:
    """One vector, float32 [D], as a BSON vector of FLOAT32 elements."""
    return Binary(_FLOAT32 + np.asarray(row, dtype="<f4").tobytes(), VECTOR_SUBTYPE)


def decode_vectors(values: list[Any], dimension: int) -> tuple[NDArray[np.float32], list[tuple[int, str]]]:
    """Decode one field of n documents, BSON vectors and arrays of numbers alike, in one go.

    Args:
        values: the field's value in each document, None where it has none; an array as a list, or as its bytes.
        dimension: the size D that each vector must have.

    Returns:
        float32 [n, D], and (index, reason) of each row that is no vector, in rising order. The reason is
        ``missing``, ``bad type``, ``wrong size <found>``, ``not finite`` or ``zero norm``.
    """
    rows = np.zeros((len(values), dimension), dtype=np.float32)
    array_bytes = len(_array_of_zeros(dimension)[0])
    binaries, arrays, others = [], [], []
    for index, value in enumerate(values):
        if type(value) is Binary and len(value) == 2 + 4 * dimension and value.subtype == VECTOR_SUBTYPE:
            binaries.append(index)
        elif type(value) is memoryview and len(value) == array_bytes:
            arrays.append(index)
        else:
            others.append(index)
    reasons: dict[int, str] = {}
    with np.errstate(all="ignore"):  # what is too large for float32 becomes infinite, and so "not finite"
        for found, read in ((binaries, _read_binaries), (arrays, _read_arrays)):
            if found:
                numbers, odd = read([values[index] for index in found], dimension)
                rows[found] = numbers
                others += [found[place] for place in odd]
        for index in others:
            judged = _judge(values[index], dimension)
            if isinstance(judged, str):
                reasons[index] = judged
            else:
                rows[index] = judged
        # The squared norm tells all: it is also not finite for elements so large that no cosine can be taken.
        norms = np.einsum("nd,nd->n", rows, rows)
    for index in np.flatnonzero(~np.isfinite(norms) | (norms == 0)).tolist():
        reasons.setdefault(index, "zero norm" if norms[index] == 0 else "not finite")
    return rows, sorted(reasons.items())


def _read_binaries(values: list[bytes], dimension: int) -> tuple[NDArray[Any], list[int]]:
    """Numbers [n, D] of values with as many bytes as a vector, and the places of those that are none."""
    records = np.frombuffer(b"".join(values), [("header", "V2"), ("numbers", "<f4", (dimension,))])
    return records["numbers"], np.flatnonzero(records["header"] != np.void(_FLOAT32)).tolist()


def _read_arrays(values: list[memoryview], dimension: int) -> tuple[NDArray[Any], list[int]]:
    """Numbers [n, D] of values with as many bytes as an array of doubles, and the places of those that are none."""
    zeros, record = _array_of_zeros(dimension)
    whole = bytearray().join(values)
    records = np.frombuffer(whole, record)
    runs = [records[name]["number"] for name in record.names or () if name.startswith("run")]
    numbers = np.concatenate(runs, axis=1, dtype=np.float32, casting="same_kind")
    for run in runs:
        run[:] = 0
    starts = range(0, len(whole), len(zeros))
    return numbers, [place for place, at in enumerate(starts) if whole[at : at + len(zeros)] != zeros]


@cache
def _array_of_zeros(dimension: int) -> tuple[bytes, np.dtype[np.void]]:
    """The bytes of an array of D zeros, and these as numbers in runs whose keys have equally many digits."""
    fields: list[Any] = [("length", "<i4")]
    first = 0
    while first < dimension:
        digits = len(str(first))
        end = min(10**digits, dimension)
        fields.append((f"run {digits}", [("key", "u1", digits + 2), ("number", "<f8")], end - first))
        first = end
    return bson.encode({"": [0.0] * dimension})[6:-1], np.dtype([*fields, ("closing", "u1")])


def _judge(value: Any, dimension: int) -> NDArray[np.float32] | str:
    """A value of another form, as float32 [D] if it is a vector all the same, else the reason why it is none."""
    if value is None:
        return "missing"
    if isinstance(value, Binary):
        size, rest = divmod(len(value) - len(_FLOAT32), 4)
        if value.subtype != VECTOR_SUBTYPE or value[: len(_FLOAT32)] != _FLOAT32 or rest:
            return "bad type"
        return f"wrong size {size}"
    if isinstance(value, memoryview):
        value = decode_array(value)
    if not isinstance(value, list):
        return "bad type"
    if len(value) != dimension:
        return f"wrong size {len(value)}"
    try:
        array = np.array(value)  # without a dtype: with one, NumPy would read numbers out of strings
    except (ValueError, OverflowError):  # ragged lists within lists, integers beyond 64 bits
        return "bad type"
    if array.dtype.kind not in "fiub" or array.shape != (dimension,):
        return "bad type"
    return array.astype(np.float64, copy=False).astype(np.float32)  # integers are rounded as they are beside floats
