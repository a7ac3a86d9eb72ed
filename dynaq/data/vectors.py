"""Vectors as MongoDB keeps them: BSON Binary vectors are written, arrays of numbers are read too.

A BSON vector is a Binary of subtype 9 whose payload opens with two bytes, the element type and the padding,
followed by the elements in little-endian order (https://bsonspec.org, "BSON Binary Subtype 9 - Vector").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from bson.binary import VECTOR_SUBTYPE, Binary
from numpy.typing import NDArray

_FLOAT32 = b"\x27\x00"


def encode_vector(row: NDArray[np.float32]) -> Binary:
    """One vector, float32 [D], as a BSON vector of FLOAT32 elements."""
    return Binary(_FLOAT32 + np.asarray(row, dtype="<f4").tobytes(), VECTOR_SUBTYPE)


def decode_vectors(values: list[Any], dimension: int) -> tuple[NDArray[np.float32], list[tuple[int, str]]]:
    """Decode one field of n documents, BSON vectors and lists of numbers alike.

    Args:
        values: the field's value in each document, None where it has none.
        dimension: the size D that each vector must have.

    Returns:
        float32 [n, D], and (index, reason) of each row that is no vector, in rising order. The reason is
        ``missing``, ``bad type``, ``wrong size <found>``, ``not finite`` or ``zero norm``.
    """
    rows = np.zeros((len(values), dimension), dtype=np.float32)
    reasons: dict[int, str] = {}
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and so "not finite"
        for index, value in enumerate(values):
            judged = _judge(value, dimension)
            if isinstance(judged, str):
                reasons[index] = judged
            else:
                rows[index] = judged
    return rows, sorted({**dict(unusable_rows(rows)), **reasons}.items())


def unusable_rows(rows: NDArray[np.float32]) -> list[tuple[int, str]]:
    """(index, reason) of each of the rows [n, D] of which no cosine can be taken: ``not finite`` or ``zero norm``."""
    with np.errstate(all="ignore"):
        # The squared norm tells all: it is also not finite for elements so large that no cosine can be taken.
        norms = np.einsum("nd,nd->n", rows, rows)
    odd = np.flatnonzero(~np.isfinite(norms) | (norms == 0)).tolist()
    return [(index, "zero norm" if norms[index] == 0 else "not finite") for index in odd]


def _judge(value: Any, dimension: int) -> NDArray[np.float32] | str:
    """A value as float32 [D], or the reason why it is no vector."""
    if value is None:
        return "missing"
    if isinstance(value, Binary):
        size, rest = divmod(len(value) - len(_FLOAT32), 4)
        if value.subtype != VECTOR_SUBTYPE or value[: len(_FLOAT32)] != _FLOAT32 or rest:
            return "bad type"
        return np.frombuffer(value[len(_FLOAT32) :], "<f4") if size == dimension else f"wrong size {size}"
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
