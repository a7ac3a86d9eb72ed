"""The store of paid labels: one document for each question that was ever answered, never asked again.

What makes two questions the same is the whole key. Labels of another prompt, schema, model, revision or temperature
are other documents, so they cannot mix.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple

from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from dynaq.data.connection import durable, mongo_errors, only_duplicates

_IDS_PER_QUERY = 10_000  # far below the 16 MiB that a query may have


class LabelKey(NamedTuple):
    """A question, exactly as it was asked.

    Attributes:
        prompt_version, schema_version: of the instructions and of the answer's form.
        provenance: server kind, model and, but for OpenAI itself, a hash of its address: ``openai:gpt-4.1``,
            ``openai:llama@1a2b3c4d``, ``rule-sim-v1``.
        revision: of the model, as the server reports it: often dated.
        temperature: of sampling.
        sample: 0 for the first answer to the same question, 1 for the second, ...
        applicant_hash, job_hash: of the texts that were shown.
    """

    prompt_version: str
    schema_version: str
    provenance: str
    revision: str
    temperature: float
    sample: int
    applicant_hash: str
    job_hash: str

    @property
    def digest(self) -> str:
        """The document's _id: MongoDB's own unique index then is the unique index over the key."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()


@dataclass(frozen=True)
class LabelRecord:
    """A stored label: the question, the answer's probabilities, and where it came from.

    Attributes:
        applicant_id, job_id: of the pair that was asked first; pairs with the same texts share the record.
        raw_reply: the text that the label was read from.
        cached_tokens: of the prompt, those that the provider had seen before.
        latency_s: with retries.
        created: UTC.
    """

    key: LabelKey
    applicant_id: str
    job_id: str
    apply: float
    save: float
    ignore: float
    reason: str
    raw_reply: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    latency_s: float
    created: datetime


_FAMILY = ("provenance", "prompt_version", "schema_version", "temperature")  # of labels that may be used together
_ANSWER_FIELDS = [field.name for field in fields(LabelRecord) if field.name != "key"]


class LabelStore:
    """Labels in a MongoDB collection; any number of processes may share it.

    Attributes:
        name: of database and collection.
    """

    def __init__(self, collection: Collection[dict[str, Any]]) -> None:
        """The collection need not exist."""
        self._collection = durable(collection)
        self.name = collection.full_name
        self._indexed = False

    def beside(self, name: str) -> Collection[dict[str, Any]]:
        """Another collection, which is called after this one."""
        return self._collection.database[f"{self._collection.name}.{name}"]

    def find(self, keys: Iterable[LabelKey]) -> dict[LabelKey, LabelRecord]:
        """The records of those keys that are stored.

        Raises:
            TransientError: MongoDB did not answer.
        """
        wanted = {key.digest: key for key in keys}
        ids = list(wanted)
        found = {}
        with mongo_errors():
            for start in range(0, len(ids), _IDS_PER_QUERY):
                for document in self._collection.find({"_id": {"$in": ids[start : start + _IDS_PER_QUERY]}}):
                    answer = {name: document[name] for name in _ANSWER_FIELDS}
                    key = wanted[document["_id"]]
                    found[key] = LabelRecord(key=key, **answer)
        return found

    def revisions(self, key: LabelKey) -> list[str]:
        """Of which revisions of the model there are labels that differ from this key in nothing but the pair.

        Raises:
            TransientError: MongoDB did not answer.
        """
        alike = {name: getattr(key, name) for name in _FAMILY}
        with mongo_errors():
            if not self._indexed:
                self._collection.create_index([(name, 1) for name in (*_FAMILY, "revision")])
                self._indexed = True
            return sorted(self._collection.distinct("revision", alike))

    def put(self, records: Sequence[LabelRecord]) -> set[LabelKey]:
        """Write records and return when they are on disk.

        Returns:
            The keys of those that another process had written before; they stay as they were.

        Raises:
            TransientError: MongoDB did not answer.
        """
        return {records[index].key for index in self.insert([as_document(record) for record in records])}

    def insert(self, documents: Sequence[dict[str, Any]]) -> list[int]:
        """Write records as documents, as ``put`` does; returns the indices of those that were there."""
        with mongo_errors():
            try:
                if documents:
                    self._collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if not only_duplicates(error):
                    raise
                return [failed["index"] for failed in error.details["writeErrors"]]
        return []


def as_document(record: LabelRecord) -> dict[str, Any]:
    """A record as MongoDB holds it."""
    answer = {name: getattr(record, name) for name in _ANSWER_FIELDS}
    return {"_id": record.key.digest, **record.key._asdict(), **answer}
