"""Rows that say nearly the same, found without comparing all pairs: random hyperplanes (Charikar 2002) in bands.

Considered: datasketch hashes shingles of texts in Python, one row at a time; faiss is an optional extra, and who is
held out must not depend on what is installed.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dynaq.errors import InputError

THRESHOLD = 0.97

_LOWEST = 0.95  # below it the bands would miss too many
_BANDS, _BITS = 64, 32
_NEIGHBOURS = 8
_SEED = 0  # of the hyperplanes: the same rows are grouped alike everywhere
_CHUNK = 4096  # rows or pairs in memory at a time
_ROUNDING = 1e-6
_NO_TEXT_CHARACTER = re.compile(r"[\W_]+")


def groups(
    vectors: NDArray[np.float32], texts: Sequence[Mapping[str, str]], threshold: float = THRESHOLD
) -> NDArray[np.int64]:
    """The number of each row's group: rows linked by a chain of near-duplicates share one.

    Two rows are near-duplicates if their texts are equal but for case, blanks and punctuation, or if the cosine of
    their vectors is at least the threshold. Of rows that concatenate unit vectors of several fields this is the mean
    of the cosines of the fields. Nothing else is asked for, no equal title or employer: an agent sees the vectors
    alone, and two rows that it cannot tell apart must not lie on both sides of a split. Equal vectors are joined
    whatever the texts say; rows without any text only by their vectors.

    The default is the lowest hundredth whose pairs are found 99 times in 100, and chains stay short there: of 12,000
    public postings (title and text by all-MiniLM-L6-v2) the largest group has 17, and its share falls as the
    catalogue grows; at 0.95 it has 43 and the share stays, at 0.90 it has 178 and the share grows. Pairs just above
    0.97 have half of their runs of five words in common, and five in six the same title.

    A pair with all `_BITS` signs of a band in common is a candidate, and its exact cosine decides. So nothing is
    joined wrongly, and a pair is missed with probability 1 - `recall`, or not even then if a third row links the two.
    In a bucket of more than `_NEIGHBOURS` + 1 rows each row is compared with that many rows after it, in the order of
    the next band's signs, instead of with all. A crowd of copies is still joined, copy by copy; lost may be a pair
    scattered, in every band, among many rows that resemble both and duplicate neither.

    Args:
        vectors: float32 [N, D], may be memory-mapped; read in chunks.
        texts: N mappings label -> text.
        threshold: smallest cosine of near-duplicates, 0.95 to 1.

    Returns:
        int64 [N], 0 to the number of groups - 1.

    Raises:
        InputError: the threshold is out of range, rows and texts differ in number, or a vector has no direction.
    """
    if not _LOWEST <= threshold <= 1:
        raise InputError(f"the threshold of near-duplicates is {threshold}: take one from {_LOWEST} to 1")
    if len(vectors) != len(texts):
        raise InputError(f"there are {len(vectors)} vectors and {len(texts)} texts: each row needs both")
    numbers = _equal_texts(texts)
    signs, norms = _signs(vectors)
    least = threshold - _ROUNDING
    for first, second in _candidates(signs):
        apart = numbers[first] != numbers[second]
        first, second = first[apart], second[apart]
        near = _are_near(vectors, norms, signs, first, second, least)
        if near.any():
            numbers = _merged(numbers, first[near], second[near])
    return numbers


def recall(cosine: float) -> float:
    """The probability that two rows of this cosine share a band: 1 - (1 - (1 - angle / pi)^bits)^bands."""
    one_band = (1 - math.acos(cosine) / math.pi) ** _BITS
    return 1 - (1 - one_band) ** _BANDS


def _equal_texts(texts: Sequence[Mapping[str, str]]) -> NDArray[np.int64]:
    """Rows of equal texts get the same number; a row without text one of its own."""
    numbers: dict[bytes | int, int] = {}
    return np.array(
        [numbers.setdefault(_digest(text) or row, len(numbers)) for row, text in enumerate(texts)], np.int64
    )


def _digest(text: Mapping[str, str]) -> bytes:
    """Of the letters and digits under each label, 16 bytes; empty if there are none."""
    kept = {label: _NO_TEXT_CHARACTER.sub("", _folded(text[label])) for label in sorted(text)}
    said = "".join(f"{label}\n{letters}\n" for label, letters in kept.items() if letters)
    return blake2b(said.encode(errors="replace"), digest_size=16).digest() if said else b""


def _folded(text: str) -> str:
    # An accent may be a character of its own, as in text taken from PDF.
    return unicodedata.normalize("NFKC", text).casefold()


def _signs(vectors: NDArray[np.float32]) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """On which side of the hyperplanes of each band a row lies, uint32 [N, bands], and its length, float32 [N]."""
    rows, columns = vectors.shape
    planes = np.random.default_rng(_SEED).standard_normal((columns, _BANDS * _BITS), dtype=np.float32)
    signs, norms = np.empty((rows, _BANDS), np.uint32), np.empty(rows, np.float32)
    for start in range(0, rows, _CHUNK):
        chunk = np.asarray(vectors[start : start + _CHUNK])
        here = slice(start, start + len(chunk))
        norms[here] = np.linalg.norm(chunk, axis=1)
        if (bad := ~np.isfinite(norms[here]) | (norms[here] == 0)).any():
            raise InputError(f"the vector of row {start + bad.argmax()} is zero or not finite: leave that row out")
        signs[here] = np.packbits(chunk @ planes > 0, axis=1).view(np.uint32)
    return signs, norms


def _candidates(signs: NDArray[np.uint32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of rows that share a band, at most `_NEIGHBOURS` a row and band."""
    for band in range(_BANDS):
        order = np.argsort(signs[:, band].astype(np.uint64) << _BITS | signs[:, (band + 1) % _BANDS])
        bucket = signs[order, band]
        for distance in range(1, _NEIGHBOURS + 1):
            together = np.flatnonzero(bucket[distance:] == bucket[:-distance])
            if not len(together):
                break
            yield order[together], order[together + distance]


def _are_near(
    vectors: NDArray[np.float32],
    norms: NDArray[np.float32],
    signs: NDArray[np.uint32],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    least: float,
) -> NDArray[np.bool_]:
    """Whether the exact cosine of each pair is at least ``least``, bool [pairs].

    Pairs that differ in more signs than near-duplicates do (five standard deviations) are not read from disk.
    """
    differ, planes = math.acos(least) / math.pi, _BANDS * _BITS
    most = planes * differ + 5 * math.sqrt(planes * differ * (1 - differ))
    near = np.zeros(len(first), np.bool_)
    for start in range(0, len(first), _CHUNK):
        one, two = first[start : start + _CHUNK], second[start : start + _CHUNK]
        alike = np.flatnonzero(np.bitwise_count(signs[one] ^ signs[two]).sum(axis=1, dtype=np.uint32) <= most)
        one, two = one[alike], two[alike]
        products = np.einsum("pd,pd->p", vectors[one], vectors[two])
        near[start + alike] = products >= least * norms[one] * norms[two]
    return near


def _merged(numbers: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join the groups of each pair of rows; the nodes of the graph are the groups so far."""
    count = int(numbers.max()) + 1
    links = coo_array((np.ones(len(first), np.bool_), (numbers[first], numbers[second])), shape=(count, count))
    joined = connected_components(links, directed=False)[1]
    return np.asarray(joined, np.int64)[numbers]
