"""MongoDB: the server takes durable writes, and the collections hold what the configuration names."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynaq.config import Config, ExtractConfig
from dynaq.data.connection import durable, open_database
from dynaq.data.fields import projection, value_at
from dynaq.data.vectors import decode_vectors
from dynaq.doctor.finding import Finding

Document = dict[str, Any]

_OLDEST = 6  # major version that is tested
_SAMPLE = 100  # documents looked at


def check_mongodb(config: Config) -> Finding:
    """Whether the server answers and a majority of its members takes a write, which is taken back."""
    with open_database(config.mongo, config.work_path) as database:
        hello = database.client.admin.command("hello")
        version = str(database.client.server_info()["version"])
        collection, key = durable(database[config.mongo.collections.spending]), f"doctor {uuid.uuid4()}"
        started = time.perf_counter()
        collection.insert_one({"_id": key})
        seconds = time.perf_counter() - started
        collection.delete_one({"_id": key})
    where = "MONGODB_URI" if "MONGODB_URI" in os.environ else "embedded"
    seen = f"{where}, version {version}, a durable write took {seconds:.2f} s"
    if "setName" not in hello and hello.get("msg") != "isdbgrid":  # nor a sharded cluster
        todo = "run it as a replica set, of one member if need be (mongod --replSet)"
        return Finding("warn", f"{seen}, but no replica set: what it has confirmed may be lost", todo)
    if int(version.partition(".")[0]) < _OLDEST:
        return Finding("warn", seen, f"dynaq is tested with {_OLDEST}.0 and later")
    return Finding("ok", f"{seen}, {'replica set' if 'setName' in hello else 'sharded cluster'}")


@dataclass(frozen=True)
class Source:
    """A collection that is read, and what must be in it.

    Attributes:
        key: its configuration key.
        name: its name.
        id: the field that says which posting or applicant a document is of.
        vectors: fields with a vector.
        texts: configuration key -> field that it names.
    """

    key: str
    name: str
    id: str
    vectors: Sequence[str]
    texts: Mapping[str, str]


def sources(config: Config) -> list[Source]:
    """The collections that a snapshot is made of."""
    mongo, extract, key = config.mongo, config.extract, "mongo.collections"
    job_vectors = [mongo.job_vectors[field] for field in extract.job_fields]
    applicant_vectors = [mongo.applicant_vectors[field] for field in extract.applicant_fields]
    job_texts = {f"extract.job_text.{label}": field for label, field in extract.job_text.items()}
    applicant_texts = {f"extract.applicant_text.{label}": field for label, field in extract.applicant_text.items()}
    names = mongo.collections
    return [
        Source(f"{key}.jobs", names.jobs, "_id", [], job_texts),
        Source(f"{key}.job_embeddings", names.job_embeddings, mongo.job_id, job_vectors, {}),
        Source(f"{key}.applicants", names.applicants, "_id", [], applicant_texts),
        Source(f"{key}.applicant_embeddings", names.applicant_embeddings, mongo.applicant_id, applicant_vectors, {}),
    ]


def check_collection(config: Config, source: Source) -> Finding:
    """Whether a collection holds documents, and the first of them what the configuration names."""
    paths = [source.id, *source.vectors, *source.texts.values()]
    with open_database(config.mongo, config.work_path) as database:
        count = database[source.name].estimated_document_count()
        documents = list(database[source.name].find({}, projection(paths)).limit(_SAMPLE))
    if not documents and (config.market or config.ingest):
        return Finding("ok", "empty yet, the night's ingest fills it")
    if not documents:
        return Finding("FAIL", "empty or missing", f"run the ingest flow, or correct {source.key}")
    seen = f"{count:,} documents, of the first {len(documents)}"
    if faults := list(_faults(documents, source, config.extract)):
        return Finding("FAIL", f"{seen} {', '.join(faults)}", f"embed again, or correct {source.key} and the fields")
    if absent := [f"{field} ({key})" for key, field in source.texts.items() if not _any(documents, field)]:
        return Finding("warn", f"{seen} none has {', '.join(absent)}", "correct these names, or drop them")
    return Finding("ok", f"{seen} enough can be used" if source.vectors else f"{seen} some have each field")


def _faults(documents: list[Document], source: Source, extract: ExtractConfig) -> Iterator[str]:
    """What would stop an extraction if all documents were like these."""
    if not _any(documents, source.id):
        yield f"none has {source.id}"
    for field in source.vectors:
        _, problems = decode_vectors([value_at(document, field) for document in documents], extract.dimension)
        if len(problems) > extract.max_quarantined_share * len(documents):
            ((reason, _),) = Counter(reason for _, reason in problems).most_common(1)
            yield f"{len(problems)} have no vector of {extract.dimension} numbers in {field} ({reason})"


def _any(documents: list[Document], field: str) -> bool:
    return any(value_at(document, field) not in (None, "", []) for document in documents)
