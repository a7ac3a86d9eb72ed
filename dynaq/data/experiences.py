"""The store of experiences: what an applicant answered to a job, in the order an agent learnt from it.

A stage that is repeated writes the same positions of the same run again, which changes nothing. Real and simulated
experience lie in one collection and are told apart by their source.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from itertools import islice
from typing import Any

from pymongo import ASCENDING
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from dynaq.data.connection import durable, mongo_errors, only_duplicates
from dynaq.errors import InputError

_PER_WRITE = 5000


@dataclass(frozen=True)
class Experience:
    """One answer.

    Attributes:
        run, position: what it is known by: the key of the stage's inputs, and its place in what the stage experienced.
        source: provenance of the reward, such as ``llm:rule-sim-v1``, ``cosine`` or ``online``.
        arm: the warm start that learnt from it.
        applicant_id, job_id: as in MongoDB; rows mean nothing outside a snapshot.
        reward: finite.
        created: UTC, to the millisecond.
    """

    run: str
    position: int
    source: str
    arm: str
    applicant_id: str
    job_id: str
    reward: float
    created: datetime


_FIELDS = [field.name for field in fields(Experience)]


class ExperienceStore:
    """Experiences in a MongoDB collection; any number of processes may share it."""

    def __init__(self, collection: Collection[dict[str, Any]]) -> None:
        """The collection need not exist."""
        self._collection = durable(collection)

    @mongo_errors()
    def put(self, records: Iterable[Experience]) -> None:
        """Write records and return when they are on disk. One whose run and position are there stays as it was.

        A failure leaves some of them written; the same call may be made again.

        Raises:
            InputError: a reward is not finite, or MongoDB refuses.
            TransientError: MongoDB did not answer.
        """
        remaining = iter(records)
        # The index is what makes a repetition harmless, so it stands before the first document.
        self._collection.create_index([("run", ASCENDING), ("position", ASCENDING)], unique=True)
        while documents := [_document(record) for record in islice(remaining, _PER_WRITE)]:
            try:
                self._collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if not only_duplicates(error):
                    raise

    @mongo_errors()
    def count(self, run: str) -> int:
        """How many experiences of a run are stored.

        Raises:
            TransientError: MongoDB did not answer.
        """
        return self._collection.count_documents({"run": run})

    def read(self, run: str) -> Iterator[Experience]:
        """The experiences of a run by position, streamed.

        Raises:
            TransientError: MongoDB did not answer.
        """
        with mongo_errors():
            for document in self._collection.find({"run": run}).sort("position", ASCENDING):
                yield Experience(**{name: document[name] for name in _FIELDS})


def _document(record: Experience) -> dict[str, Any]:
    if not math.isfinite(record.reward):
        raise InputError(
            f"experience {record.position} of run {record.run} has the reward {record.reward}: only finite rewards are"
            " experiences, leave out answers that are missing"
        )
    return asdict(record)
