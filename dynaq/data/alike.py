"""Documents as MongoDB sends them, decoded many at a time: the driver makes Python objects of one after the other.

Documents of one length are a table of bytes. Where they have the same fields, of the same types and lengths, in the
same order, as most do, vectors are columns of it, and only the few bytes that are left of each go to the driver. A
document that differs in its form from the first goes there whole. pymongoarrow was considered: it has one type for a
column, where ids may be of several, and takes what it cannot read for missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from struct import Struct
from typing import Any, NamedTuple

import bson
import numpy as np
from bson.codec_options import CodecOptions
from numpy.typing import NDArray

from dynaq.data.fields import values_at
from dynaq.data.vectors import decode_vectors, encode_vector, unusable_rows

Document = dict[str, Any]
Bytes = NDArray[np.uint8]

_ARRAY, _BINARY = 0x04, 0x05
_BYTES = {  # of a value of this type, by https://bsonspec.org; beside those that the length counts which some open with
    0x01: 8,  # double
    0x02: 4,  # string
    0x03: 0,  # document
    _ARRAY: 0,
    _BINARY: 5,
    0x06: 0,  # undefined
    0x07: 12,  # ObjectId
    0x08: 1,  # boolean
    0x09: 8,  # date
    0x0A: 0,  # null
    0x0C: 16,  # pointer
    0x0D: 4,  # code
    0x0E: 4,  # symbol
    0x0F: 0,  # code with scope
    0x10: 4,  # int32
    0x11: 8,  # timestamp
    0x12: 8,  # int64
    0x13: 16,  # decimal128
    0x7F: 0,  # max key
    0xFF: 0,  # min key
}
_WITH_LENGTH = {0x02, 0x03, _ARRAY, _BINARY, 0x0C, 0x0D, 0x0E, 0x0F}
_LENGTH = Struct("<i")


class Decoded(NamedTuple):
    """n documents with F fields of vectors.

    Attributes:
        documents: as the driver decodes them, some without their vectors.
        rows: float32 [n, F, D], without meaning where there is a problem.
        problems: index -> the first field that holds no vector, and the reason.
    """

    documents: list[Document]
    rows: NDArray[np.float32]
    problems: dict[int, tuple[str, str]]


def decode_batch(raw: bytes, fields: list[str], dimension: int, options: CodecOptions[Document]) -> Decoded:
    """Decode documents that lie one behind the other, and their vectors.

    Args:
        raw: a raw batch of the driver.
        fields: dotted paths of the vectors.
        dimension: the size D of each.
        options: how the driver decodes what is left.
    """
    starts = [0]
    while starts[-1] < len(raw):
        starts.append(starts[-1] + _LENGTH.unpack_from(raw, starts[-1])[0])
    count = len(starts) - 1
    rows = np.empty((count, len(fields), dimension), dtype=np.float32)
    whole = Decoded([{}] * count, rows, {})
    for places, table in _tables(raw, starts):
        _decode_table(table, places, fields, options, whole)
    for column, name in enumerate(fields):
        for place, reason in unusable_rows(rows[:, column]):
            whole.problems.setdefault(place, (name, reason))
    return whole


def _tables(raw: bytes, starts: list[int]) -> Iterator[tuple[NDArray[np.intp], Bytes]]:
    """The documents of each length: their places [n], and their bytes, uint8 [n, length]."""
    by_length: dict[int, list[int]] = {}
    for place, (start, stop) in enumerate(pairwise(starts)):
        by_length.setdefault(stop - start, []).append(place)
    if len(by_length) == 1:
        yield np.arange(len(starts) - 1), np.frombuffer(raw, np.uint8).reshape(len(starts) - 1, -1)
        return
    for places in by_length.values():
        together = b"".join([raw[starts[place] : starts[place + 1]] for place in places])
        yield np.array(places), np.frombuffer(together, np.uint8).reshape(len(places), -1)


def _decode_table(
    table: Bytes, places: NDArray[np.intp], fields: list[str], options: CodecOptions[Document], whole: Decoded
) -> None:
    """Decode documents of one length into their places."""
    form = _Form.of(table[0].tobytes(), fields, whole.rows.shape[2])
    alike = np.zeros(len(table), dtype=bool) if form is None else form.fits(table)
    odd, others = places[~alike], bson.decode_all(table[~alike].tobytes(), options)
    for place, document in zip(odd.tolist(), others, strict=True):
        whole.documents[place] = document
    for column, name in enumerate(fields):
        whole.rows[odd, column], reasons = decode_vectors(values_at(others, name), whole.rows.shape[2])
        for index, reason in reasons:
            whole.problems.setdefault(int(odd[index]), (name, reason))
    if form is not None:  # the first one has it
        here, same = (table, places) if alike.all() else (table[alike], places[alike])
        for place, document in zip(same.tolist(), bson.decode_all(form.rest(here), options), strict=True):
            whole.documents[place] = document
        for column in range(len(fields)):
            whole.rows[same, column] = form.numbers(here, column)


class _Layout(NamedTuple):
    """How a vector of D numbers lies in a document.

    Attributes:
        zeros: uint8 [width], the value where all numbers are zero.
        number: bool [width], the bytes of numbers.
        kind: of a number.
    """

    zeros: Bytes
    number: NDArray[np.bool_]
    kind: str

    def fits(self, value: Bytes) -> bool:
        """Whether a value is such a vector."""
        return len(value) == len(self.zeros) and bool((value == self.zeros)[~self.number].all())


@cache
def _layouts(dimension: int) -> dict[int, _Layout]:
    """By BSON type: a BSON vector of float32, and an array of doubles, which has before each its type and index."""

    def layout(kind: str, encode: Callable[[NDArray[Any]], Any]) -> _Layout:
        # What differs between vectors of no bits and of all bits is their numbers.
        bits = (np.frombuffer(bit * np.dtype(kind).itemsize * dimension, kind) for bit in (b"\x00", b"\xff"))
        zeros, ones = (np.frombuffer(bson.encode({"": encode(each)})[6:-1], np.uint8) for each in bits)
        return _Layout(zeros, zeros != ones, kind)

    return {_BINARY: layout("<f4", encode_vector), _ARRAY: layout("<f8", lambda numbers: numbers.tolist())}


class _Vector(NamedTuple):
    """Where a field that holds a vector begins and ends in a document, and where its value begins."""

    start: int
    value: int
    stop: int
    layout: _Layout


class _Form(NamedTuple):
    """What documents have in common with one whose vectors lie in the document itself.

    Attributes:
        first: uint8 [length], that one.
        fixed: int [], the places of all that is no value: names, types, lengths.
        left: bool [length], what is left without the vectors.
        vectors: one for each field.
    """

    first: Bytes
    fixed: NDArray[np.intp]
    left: NDArray[np.bool_]
    vectors: list[_Vector]

    @classmethod
    def of(cls, document: bytes, fields: list[str], dimension: int) -> _Form | None:
        """The form of a document; None where a field is no vector, or something has no length."""
        layouts, first = _layouts(dimension), np.frombuffer(document, dtype=np.uint8)
        fixed, left = np.zeros(len(first), dtype=bool), np.ones(len(first), dtype=bool)
        names = [field.encode() for field in fields]
        vectors: dict[bytes, _Vector] = {}
        at = _LENGTH.size
        while kind := document[at]:
            value = document.index(0, at + 1) + 1
            if kind not in _BYTES:  # a regular expression
                return None
            stop = value + _BYTES[kind]
            fixed[at:value] = True
            if kind in _WITH_LENGTH:
                stop += _LENGTH.unpack_from(document, value)[0]
                fixed[value : value + _LENGTH.size] = True
            name, layout = document[at + 1 : value - 1], layouts.get(kind)
            if name in names and layout is not None and layout.fits(first[value:stop]):
                vectors[name] = _Vector(at, value, stop, layout)
                fixed[value:stop] = ~layout.number
                left[at:stop] = False
            at = stop
        fixed[at] = True
        if vectors.keys() != set(names):
            return None
        return cls(first, np.flatnonzero(fixed), left, [vectors[name] for name in names])

    def fits(self, table: Bytes) -> NDArray[np.bool_]:
        """Which documents have this form, bool [n]."""
        same: NDArray[np.bool_] = (table[:, self.fixed] == self.first[self.fixed]).all(axis=1)
        return same

    def numbers(self, table: Bytes, field: int) -> NDArray[np.float32]:
        """The vectors of a field, float32 [n, D]."""
        _, value, stop, layout = self.vectors[field]
        opening = int(layout.number.argmax())
        together = layout.number[opening:].all()
        numbers = table[:, value + opening : stop] if together else table[:, value:stop].compress(layout.number, axis=1)
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
            return numbers.view(layout.kind).astype(np.float32, copy=False)

    def rest(self, table: Bytes) -> bytes:
        """The documents without their vectors."""
        rest = table[:, self.left]
        rest[:, : _LENGTH.size] = np.frombuffer(_LENGTH.pack(rest.shape[1]), dtype=np.uint8)
        return rest.tobytes()
