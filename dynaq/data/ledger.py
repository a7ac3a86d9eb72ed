"""What has been paid for labels so far, one document an account: whoever pays adds to it and reads the total."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.write_concern import WriteConcern

from dynaq.data.connection import mongo_errors


@dataclass(frozen=True)
class Spent:
    """Calls answered, labels among the answers, and tokens as the server counts them (cached ones are in prompt)."""

    calls: int = 0
    labels: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


_COUNTS = [field.name for field in fields(Spent)]


class Ledger:
    """An account of calls that were answered, shared by processes and by those that go on where they stopped.

    It is written without waiting for the disk, before the labels are: a process that is killed between the two has
    counted more than it stored. What a provider bills for a call that timed out is in no account, and a database that
    loses power forgets its last 0.1 s.
    """

    def __init__(self, collection: Collection[dict[str, Any]], account: str) -> None:
        """Open the account of that name, new or not."""
        # Said, because MongoDB 5 and later wait for a majority where nothing is said.
        self._collection = collection.with_options(write_concern=WriteConcern(w=1, j=False))
        self._account = account

    def add(self, spent: Spent) -> Spent:
        """Add to the account; returns the total of all processes.

        Raises:
            TransientError: MongoDB did not answer.
        """
        with mongo_errors():
            document = self._collection.find_one_and_update(
                {"_id": self._account}, {"$inc": asdict(spent)}, upsert=True, return_document=ReturnDocument.AFTER
            )
        return _read(document or {})

    def total(self) -> Spent:
        """The total of all processes so far.

        Raises:
            TransientError: MongoDB did not answer.
        """
        with mongo_errors():
            return _read(self._collection.find_one({"_id": self._account}) or {})


def _read(document: dict[str, Any]) -> Spent:
    return Spent(**{name: document.get(name, 0) for name in _COUNTS})
