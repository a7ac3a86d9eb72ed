"""Documents that cannot be used: listed one by one, counted by reason, and refused beyond a share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Set
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from bson import Code, ObjectId
from pymongo.collection import Collection

from dynaq.config import ExtractConfig
from dynaq.errors import InputError

QUARANTINE = "quarantine.jsonl"


class Rejection(NamedTuple):
    """Why a document cannot be used."""

    id: str
    field: str
    reason: str


class Quarantine:
    """The rejected documents of one collection: the list lies on disk, only the counts are in memory."""

    def __init__(self, directory: Path, collection: str) -> None:
        """Start an empty list in a directory."""
        self.path = directory / f"quarantine-{collection.replace('/', '_')}.jsonl"
        self.path.touch()
        self.collection = collection
        self.counts: Counter[tuple[str, str]] = Counter()  # by field and reason

    def add(self, rejections: list[Rejection]) -> None:
        """Append to the list."""
        if not rejections:
            return
        with self.path.open("a", encoding="utf-8") as file:
            for rejection in rejections:
                entry = {"collection": self.collection, **rejection._asdict()}
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self.counts.update((rejection.field, rejection.reason) for rejection in rejections)

    def by_reason(self) -> dict[str, int]:
        """Reason -> documents."""
        totals: Counter[str] = Counter()
        for (_, reason), count in self.counts.items():
            totals[reason] += count
        return dict(totals)

    def judge(self, documents: int, extract: ExtractConfig, kept_under: Path) -> None:
        """Refuse a collection of which too much, or all, cannot be used; its list is kept in a directory.

        Args:
            documents: those of the collection, and the text documents among its rejections.
            extract: the bound and the dimension.
            kept_under: the directory.

        Raises:
            InputError: the share of rejected documents exceeds extract.max_quarantined_share.
        """
        rejected, bound = self.counts.total(), extract.max_quarantined_share
        if rejected < documents and rejected <= bound * documents:
            return
        kept = self.path.replace(kept_under / self.path.name)
        worst = self.counts.most_common(3)
        (field, reason), count = worst[0]
        if count == documents and reason.startswith("wrong size "):
            found = reason.removeprefix("wrong size ")
            raise InputError(
                f"every {field} in {self.collection} has {found} numbers, but extract.dimension is"
                f" {extract.dimension}: set extract.dimension to {found} or embed with another encoder"
                f" (all are listed in {kept})"
            )
        reasons = ", ".join(f"{field} {reason} ({count})" for (field, reason), count in worst)
        raise InputError(
            f"{rejected} of {documents} documents ({rejected / documents:.1%}) of {self.collection} cannot be"
            f" used, extract.max_quarantined_share allows {bound:.1%}: {reasons}; all are listed in {kept}"
        )


def without_vectors(
    texts: Collection[dict[str, Any]], id_field: str, referred: Set[Any], batch_size: int
) -> Iterator[list[Rejection]]:
    """Batches of the text documents that no embedding document refers to: otherwise nobody would miss them.

    Args:
        texts: the text documents.
        id_field: the field of an embedding document that refers to one.
        referred: what that field holds anywhere; an ObjectId may be referred to by its hexadecimal form.
        batch_size: text documents in a batch.
    """

    def is_referred(key: Any) -> bool:
        if isinstance(key, ObjectId):
            return key in referred or str(key) in referred
        # Other keys need not be hashable, JavaScript among them, which is a str to Python.
        return isinstance(key, str | int) and not isinstance(key, Code) and key in referred

    # In the order of _id the server answers from its index, without reading the documents.
    with texts.find({}, {"_id": 1}, sort=[("_id", 1)], batch_size=batch_size) as cursor:
        missed = (text["_id"] for text in cursor if not is_referred(text["_id"]))
        while batch := [Rejection(str(key), id_field, "no vectors") for key in islice(missed, batch_size)]:
            yield batch


def merge(quarantines: list[Quarantine], path: Path) -> None:
    """Move the lists of several collections into one file."""
    with path.open("wb") as whole:
        for quarantine in quarantines:
            whole.write(quarantine.path.read_bytes())
            quarantine.path.unlink()
