"""What has been paid for labels so far, one document an account: whoever pays adds to it and reads the total."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection

from dynaq.data.connection import durable, mongo_errors


@dataclass(frozen=True)
class Spent:
    """Calls answered, labels among the answers, and tokens as the server counts them (cached ones are in prompt)."""

    calls: int = 0
    labels: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


_COUNTS = [field.name for field in fields(Spent)]


def sum_of(parts: Iterable[Spent]) -> Spent:
    """Several together."""
    return Spent(*map(sum, zip(*map(astuple, parts), strict=True)))


_REMEMBERED = 200  # groups; one that is entered again has been so within far fewer


class Ledger:
    """An account of calls that were answered, shared by processes and by those that go on where they stopped.

    It is on disk when ``add`` returns: the driver repeats the write of labels that comes next where MongoDB was killed
    in between, and what lay in the memory of the one before would be gone. What a provider bills for a call whose
    answer never came is in no account.
    """

    def __init__(self, collection: Collection[dict[str, Any]], account: str) -> None:
        """Open the account of that name, new or not."""
        self._collection = durable(collection)
        self.account = account

    def of(self, account: str) -> Ledger:
        """Another account in the same collection."""
        return Ledger(self._collection, account)

    def add(self, spent: Spent, group: str) -> Spent:
        """Add to the account, once for a group of calls however often it is entered; returns the total of all.

        Raises:
            TransientError: MongoDB did not answer.
        """
        account, remembered = {"_id": self.account}, {"groups": {"$each": [group], "$slice": -_REMEMBERED}}
        with mongo_errors():
            for _ in range(2):
                document = self._collection.find_one_and_update(
                    {**account, "groups": {"$ne": group}},
                    {"$inc": asdict(spent), "$push": remembered},
                    projection=_COUNTS,
                    return_document=ReturnDocument.AFTER,
                )
                if document is not None:
                    return _read(document)
                self._collection.update_one(account, {"$setOnInsert": {"groups": []}}, upsert=True)
        return self.total()

    def total(self) -> Spent:
        """The total of all processes so far.

        Raises:
            TransientError: MongoDB did not answer.
        """
        with mongo_errors():
            return _read(self._collection.find_one({"_id": self.account}, _COUNTS) or {})


def _read(document: dict[str, Any]) -> Spent:
    return Spent(**{name: document.get(name, 0) for name in _COUNTS})
