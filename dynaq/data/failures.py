"""Questions that were paid for and got no label: nobody asks them again on that day (UTC).

A text that a model refuses costs as much as one that it answers, each time. The next day it may: models change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import BulkWriteError
from pymongo.write_concern import WriteConcern

from dynaq.data.connection import mongo_errors, only_duplicates
from dynaq.data.labels import LabelKey, LabelStore

_KEPT_S = 2 * 86_400


@dataclass(frozen=True)
class FailureRecord:
    """A failure.

    Attributes:
        key: of the question, without a revision: a failure tells none.
        applicant_id, job_id: of the pair that was asked.
        kind: as ``refusal``.
        created: UTC.
    """

    key: LabelKey
    applicant_id: str
    job_id: str
    kind: str
    created: datetime


class FailureStore:
    """Failures in a collection beside that of the labels, which MongoDB itself clears after two days.

    It is written without waiting for the disk: what is lost is asked once more.
    """

    def __init__(self, labels: LabelStore) -> None:
        """The collection need not exist."""
        self._collection = labels.beside("failures").with_options(write_concern=WriteConcern(w=1, j=False))
        self._indexed = False

    def find(self, keys: Iterable[LabelKey]) -> dict[LabelKey, str]:
        """The kinds of those questions that have failed today.

        Raises:
            TransientError: MongoDB did not answer.
        """
        asked = {_id(key, datetime.now(UTC)): key for key in keys}
        with mongo_errors():
            return {asked[each["_id"]]: each["kind"] for each in self._collection.find({"_id": {"$in": list(asked)}})}

    def insert(self, documents: Sequence[dict[str, Any]]) -> None:
        """Write records as documents; those that are there stay.

        Raises:
            TransientError: MongoDB did not answer.
        """
        if not documents:
            return
        with mongo_errors():
            if not self._indexed:
                self._collection.create_index("created", expireAfterSeconds=_KEPT_S)
                self._indexed = True
            try:
                self._collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if not only_duplicates(error):
                    raise

    def forget(self, keys: Collection[LabelKey]) -> None:
        """Let these be asked again today.

        Raises:
            TransientError: MongoDB did not answer.
        """
        with mongo_errors():
            self._collection.delete_many({"_id": {"$in": [_id(key, datetime.now(UTC)) for key in keys]}})


def failure_document(record: FailureRecord) -> dict[str, Any]:
    """A record as MongoDB holds it."""
    pair = {"applicant_id": record.applicant_id, "job_id": record.job_id}
    told = {"_id": _id(record.key, record.created), **pair, "kind": record.kind, "created": record.created}
    return {**record.key._asdict(), **told}


def _id(key: LabelKey, day: datetime) -> str:
    return f"{key.digest} {day.date()}"
