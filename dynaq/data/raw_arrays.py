"""Arrays of numbers that the driver does not decode: most of its time goes into a Python object for every number.

BSON (https://bsonspec.org) says how long each element of a document is, so that arrays can be cut out unread.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

import bson
from bson.codec_options import CodecOptions

Document = dict[str, Any]

_ARRAY, _REGEX = 0x04, 0x0B
_BYTES = {  # of a value of this type; beside those that the length counts with which some values open
    0x01: 8,  # double
    0x02: 4,  # string
    0x03: 0,  # document
    _ARRAY: 0,
    0x05: 5,  # binary
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
_WITH_LENGTH = {0x02, 0x03, _ARRAY, 0x05, 0x0C, 0x0D, 0x0E, 0x0F}
_LENGTH = Struct("<i")


def decode_documents(documents: list[bytes], fields: list[str], options: CodecOptions[Document]) -> list[Document]:
    """Decode documents; where one of the fields holds an array it stays a memoryview of its bytes.

    Only fields of the document itself stay so: a path with a dot names none.
    """
    names = {field.encode(): field for field in fields}
    rest: list[bytes] = []
    arrays = [_cut_arrays(document, names, rest) for document in documents]
    decoded = bson.decode_all(b"".join(rest), options)
    for document, cut in zip(decoded, arrays, strict=True):
        document.update(cut)
    return decoded


def decode_array(array: memoryview) -> list[Any]:
    """The values of an array, which BSON keeps as a document whose keys are the indices."""
    return list(bson.decode(array).values())


def _cut_arrays(document: bytes, names: dict[bytes, str], rest: list[bytes]) -> dict[str, memoryview]:
    """Some arrays of a document; the bytes of a document without them are appended to ``rest``."""
    cut: dict[str, memoryview] = {}
    kept: list[bytes] = []
    size = len(document)
    at = unread = 4
    while at < len(document) - 1:  # the last byte closes the document
        kind = document[at]
        value = document.index(0, at + 1) + 1
        if kind == _REGEX:  # two strings, each closed by a zero
            stop = document.index(0, document.index(0, value) + 1) + 1
        else:
            stop = value + _BYTES[kind]
            if kind in _WITH_LENGTH:
                stop += _LENGTH.unpack_from(document, value)[0]
        if kind == _ARRAY and (name := names.get(document[at + 1 : value - 1])) is not None:
            cut[name] = memoryview(document)[value:stop]
            size -= stop - at
            kept.append(document[unread:at])
            unread = stop
        at = stop
    rest += [_LENGTH.pack(size), *kept, document[unread:]]
    return cut
