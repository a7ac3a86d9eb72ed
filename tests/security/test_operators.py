"""What documents and servers say is compared with, never executed as a query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bson import Code, Regex
from numpy.typing import NDArray
from pymongo.database import Database
from pymongo.errors import WriteError

from dynaq.config import MongoConfig
from dynaq.config_file import load_config
from dynaq.data.embed import embed_documents
from dynaq.data.extract import extract_snapshot
from dynaq.data.snapshot import open_snapshot
from dynaq.data.vectors import encode_vector
from dynaq.llm.reply import Answer, read_completion
from tests.paths import BASE_CONFIG

OPERATORS: list[Any] = [{"$gt": ""}, {"$ne": None}, {"$where": "1"}, {"$in": ["a"]}, Regex(".*"), Code("1"), {"a": 1}]
MODEST = {"extract.dimension": 2, "extract.applicant_fields": ["hard_skills"], "extract.job_fields": ["title"]}
MODEST |= {"extract.cosine_pairs": [], "extract.max_quarantined_share": 0.9}


class Ones:
    name, dimension = "ones", 2

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 2), dtype=np.float32)


def test_ids_that_are_operators_meet_nobody(
    database: Database[dict[str, Any]], mongo_config: MongoConfig, tmp_path: Path
) -> None:
    names, extract = mongo_config.collections, load_config(BASE_CONFIG, MODEST).extract
    for texts, vectors, id_field, field in (
        (names.jobs, names.job_embeddings, mongo_config.job_id, mongo_config.job_vectors["title"]),
        (
            names.applicants,
            names.applicant_embeddings,
            mongo_config.applicant_id,
            mongo_config.applicant_vectors["hard_skills"],
        ),
    ):
        database[texts].insert_one({"_id": "a", "title": "welder", "hard_skills": "welding"})
        database[texts].insert_many([{"_id": {"a": 1}}, {"_id": Code("1")}])
        database[vectors].insert_one({id_field: "a", field: encode_vector([1.0, 0.0])})
        database[vectors].insert_many([{id_field: each, field: encode_vector([0.0, 1.0])} for each in OPERATORS])
    snapshot = open_snapshot(extract_snapshot(database, mongo_config, extract, tmp_path))
    assert snapshot.job_ids == snapshot.applicant_ids == ["a"]
    assert list(snapshot.job_texts) == [{"title": "welder"}]
    assert snapshot.manifest.quarantined[names.job_embeddings] == {"bad type": len(OPERATORS), "no vectors": 2}


def test_embedding_writes_to_the_document_of_the_text_alone(database: Database[dict[str, Any]]) -> None:
    with pytest.raises(WriteError):  # the server itself keeps no _id with an operator
        database["texts"].insert_one({"_id": {"$gt": ""}})
    database["texts"].insert_many([{"_id": "a", "title": "welder"}, {"_id": {"a": 1}, "title": "strange"}])
    database["vectors"].insert_many([{"job": each, "mine": True} for each in OPERATORS])
    config = load_config(BASE_CONFIG).embedding
    done = embed_documents(database, "texts", "vectors", "job", {"title": "vector"}, Ones(), config)
    assert (done.read, done.written) == (1, 1)
    assert [document["job"] for document in database["vectors"].find({"vector": {"$exists": True}})] == ["a"]
    assert database["vectors"].count_documents({"mine": True}) == len(OPERATORS)


def test_the_name_that_a_server_gives_a_model_is_text() -> None:
    content = '{"apply": 1, "save": 0, "ignore": 0, "reason": "place"}'
    completion = {"model": {"$gt": ""}, "choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
    answer = read_completion(completion, "probabilities", 0.1)
    assert isinstance(answer, Answer)
    assert answer.model == "{'$gt': ''}"  # it is looked up as the revision of labels
