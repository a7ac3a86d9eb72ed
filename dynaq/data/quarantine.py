"""Documents that cannot be used: listed one by one, counted by reason, and refused beyond a share."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

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


def merge(quarantines: list[Quarantine], path: Path) -> None:
    """Move the lists of several collections into one file."""
    with path.open("wb") as whole:
        for quarantine in quarantines:
            whole.write(quarantine.path.read_bytes())
            quarantine.path.unlink()
