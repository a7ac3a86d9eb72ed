"""Whether anything has changed since the last snapshot: one digest of the versions of all documents.

MongoDB sends some hundred bytes of each document, which are hashed as they come: what an unchanged night costs beside
hashing the snapshot once. The digest is taken before the documents are read, so that what changes meanwhile gives
another one tomorrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from pymongo.cursor import RawBatchCursor

from dynaq.config import ExtractConfig, MongoConfig
from dynaq.data.batch import Source, reading_code
from dynaq.data.fields import projection


def versions_digest(sources: Sequence[Source], mongo: MongoConfig, extract: ExtractConfig) -> str | None:
    """The sha256, in hex, of how documents are read and of the ids and versions of all of them.

    None where the configuration names no version, so that nobody can tell. It says nothing where a document has none.
    """
    if mongo.versions.vectors is None or (mongo.versions.texts is None and any(source.labels for source in sources)):
        return None
    digest = hashlib.sha256(f"{mongo.model_dump_json()}\n{extract.model_dump_json()}\n{reading_code()}\n".encode())
    for source in sources:
        collections = [(source.embeddings, source.about)]
        if source.labels:
            collections.append((source.texts, [str(mongo.versions.texts)]))
        for collection, fields in collections:
            options = {"sort": [("_id", 1)], "allow_disk_use": True, "batch_size": 10 * extract.batch_size}
            batches: RawBatchCursor[Any] = collection.find_raw_batches({}, projection(fields), **options)
            of_one = hashlib.sha256(collection.full_name.encode())
            with batches:
                for raw in batches:
                    of_one.update(raw)
            digest.update(of_one.digest())
    return digest.hexdigest()
