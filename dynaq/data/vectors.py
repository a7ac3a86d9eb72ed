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
    """Decode one field of n documents, BSON vectors and arrays of numbers alike, in one go.

    Args:
        values: the field's value in each document, None where it has none.
        dimension: the size D that each vector must have.

    Returns:
        The usable vectors in the order given, float32 [n_ok, D], and (index, reason) of every other value in
        rising order. The reason is ``missing``, ``bad type``, ``wrong size <found>``, ``not finite`` or
        ``zero norm``.
    """
    reasons: dict[int, str] = {}
    binaries, arrays = [], []
    for index, value in enumerate(values):
        if reason := _misfit(value, dimension):
            reasons[index] = reason
        elif isinstance(value, Binary):
            binaries.append(index)
        else:
            arrays.append(index)
    rows = np.zeros((len(values), dimension), dtype=np.float32)
    if binaries:
        record = np.dtype([("header", "u1", len(_FLOAT32)), ("row", "<f4", (dimension,))])
        rows[binaries] = np.frombuffer(b"".join([values[index] for index in binaries]), record)["row"]
    if arrays:
        numbers = _numbers([values[index] for index in arrays], dimension)
        if numbers is not None:
            rows[arrays] = numbers
        else:  # at least one is no vector of numbers: look at each
            for index in arrays:
                number = _numbers([values[index]], dimension)
                if number is None:
                    reasons[index] = "bad type"
                else:
                    rows[index] = number[0]
    with np.errstate(all="ignore"):
        # The squared norm tells all: it is also not finite for elements so large that no cosine can be taken.
        norms = np.einsum("nd,nd->n", rows, rows)
    for index in np.flatnonzero(~np.isfinite(norms) | (norms == 0)).tolist():
        reasons.setdefault(index, "zero norm" if norms[index] == 0 else "not finite")
    if reasons:
        rows = np.delete(rows, list(reasons), axis=0)
    return rows, sorted(reasons.items())


def _misfit(value: Any, dimension: int) -> str | None:
    """Why a value cannot be a vector of this size, judged by its type and length alone."""
    if value is None:
        return "missing"
    if isinstance(value, Binary):
        size, rest = divmod(len(value) - len(_FLOAT32), 4)
        if value.subtype != VECTOR_SUBTYPE or value[: len(_FLOAT32)] != _FLOAT32 or rest:
            return "bad type"
    elif isinstance(value, list):
        size = len(value)
    else:
        return "bad type"
    return None if size == dimension else f"wrong size {size}"


def _numbers(lists: list[list[Any]], dimension: int) -> NDArray[np.float32] | None:
    """Lists of numbers as float32 [len(lists), dimension], None if any holds something else."""
    try:
        array = np.array(lists)  # without a dtype: with one, NumPy would read numbers out of strings
    except (ValueError, OverflowError):  # ragged lists within lists, integers beyond 64 bits
        return None
    if array.dtype.kind not in "fiub" or array.shape != (len(lists), dimension):
        return None
    # Integers go through float64 as they do beside floats, so that no row depends on the others in its batch.
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and so "not finite"
        return array.astype(np.float64, copy=False).astype(np.float32)
