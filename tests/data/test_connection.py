"""The way to a configured MongoDB: what is refused, what may be tried again, and that no message gives it away."""

from __future__ import annotations

import socket
import traceback
from pathlib import Path
from typing import Any

import pytest
from bson.errors import InvalidDocument
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from dynaq.config import MongoConfig
from dynaq.data.connection import durable, mongo_errors, open_database
from dynaq.errors import ConfigError, DynaqError, InputError, TransientError

SECRETS = ("anna-login", "s3cret%21", "s3cret!", "127.0.0.1", "db.invalid")


@pytest.fixture
def uri(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda text: monkeypatch.setenv("MONGODB_URI", text)


def refusal(kind: type[DynaqError], config: MongoConfig, workdir: Path) -> str:
    """The message of the error on opening, after looking for secrets in everything that could be printed of it."""
    with pytest.raises(kind) as caught, open_database(config.model_copy(update={"timeout_s": 0.5}), workdir):
        pytest.fail("it opened")
    printed = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert not [secret for secret in SECRETS if secret in printed]
    assert list(workdir.iterdir()) == []
    return str(caught.value)


def test_a_configured_server_is_used_and_no_embedded_one_started(
    mongo_config: MongoConfig, database: Database[dict[str, Any]], tmp_path: Path, uri: Any
) -> None:
    host, port = database.client.address
    database["things"].insert_one({"_id": 1})
    uri(f"mongodb://{host}:{port}/?directConnection=true\n")
    with open_database(mongo_config, tmp_path) as opened:
        assert opened["things"].find_one() == {"_id": 1}
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_refuses_connections_may_be_tried_again(
    mongo_config: MongoConfig, tmp_path: Path, uri: Any
) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        uri(f"mongodb://anna-login:s3cret%21@127.0.0.1:{unheard.getsockname()[1]}/?authSource=admin")
        message = refusal(TransientError, mongo_config, tmp_path)
    assert message == "the MongoDB named by MONGODB_URI did not answer within 0.5 s: connection refused"


def test_a_silent_server_is_a_timeout(mongo_config: MongoConfig, tmp_path: Path, uri: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri(f"mongodb://anna-login:s3cret%21@127.0.0.1:{silent.getsockname()[1]}")
        assert refusal(TransientError, mongo_config, tmp_path).endswith("within 0.5 s: timeout")


def test_an_unknown_host_is_named_as_such_but_not_by_name(mongo_config: MongoConfig, tmp_path: Path, uri: Any) -> None:
    uri("mongodb://anna-login:s3cret%21@db.invalid")
    assert refusal(TransientError, mongo_config, tmp_path).endswith("within 0.5 s: name not found")


def test_a_wrong_password_is_no_passing_trouble(
    mongo_config: MongoConfig, database: Database[dict[str, Any]], tmp_path: Path, uri: Any
) -> None:
    uri(f"mongodb://anna-login:s3cret%21@127.0.0.1:{database.client.address[1]}/?directConnection=true")
    message = refusal(ConfigError, mongo_config, tmp_path)
    assert message == "the MongoDB named by MONGODB_URI refuses its user: Authentication failed."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "postgres://anna-login:s3cret!@db.invalid",
        "mongodb://anna-login:s3cret!@db.invalid@db.invalid",
        "mongodb://db.invalid:99999",
        "mongodb://db.invalid/?tls=true&tlsCAFile=/nowhere/anna-login.pem",
        "mongodb+srv://anna-login:s3cret!@db.invalid:27017",
    ],
)
def test_a_uri_that_cannot_be_used_is_not_echoed(
    text: str, mongo_config: MongoConfig, tmp_path: Path, uri: Any
) -> None:
    uri(text)
    assert refusal(ConfigError, mongo_config, tmp_path).startswith("MONGODB_URI ")


def test_a_database_name_that_mongodb_refuses(mongo_config: MongoConfig, mongo_workdir: Path) -> None:
    named = mongo_config.model_copy(update={"database": "jobs.db"})
    with pytest.raises(ConfigError, match=r"mongo.database is 'jobs.db'"), open_database(named, mongo_workdir):
        pass


def test_errors_in_the_body_are_translated_and_ours_pass(mongo_config: MongoConfig, mongo_workdir: Path) -> None:
    with pytest.raises(InputError, match="E11000 duplicate key"), open_database(mongo_config, mongo_workdir) as db:
        db["things"].insert_many([{"_id": 1}, {"_id": 1}])
    with pytest.raises(TransientError, match="timeout"), open_database(mongo_config, mongo_workdir) as db:
        db["things"].find_one({"$where": "sleep(2000) || true"}, max_time_ms=50)
    with pytest.raises(KeyError), open_database(mongo_config, mongo_workdir) as db:
        _ = {}["mine"]
    with open_database(mongo_config, mongo_workdir) as db:
        db.client.drop_database(db.name)


def test_as_a_decorator(database: Database[dict[str, Any]]) -> None:
    @mongo_errors()
    def write() -> None:
        database["things"].insert_one({"_id": 1, "what": object()})

    with pytest.raises(InputError, match="cannot encode object") as caught:
        write()
    assert caught.value.__suppress_context__
    assert isinstance(caught.value.__context__, InvalidDocument)


def test_a_servers_words_are_scrubbed(uri: Any) -> None:
    uri("mongodb+srv://anna-login:s3cret%21@main.abc.mongodb.net/jobs?authSource=admin")
    words = "anna-login with s3cret! at main-shard-00-01.abc.mongodb.net:27017, not mongodb+srv://a:b@c, may not drop"
    with pytest.raises(InputError) as caught, mongo_errors():
        raise OperationFailure("full error", 20, {"errmsg": words})
    assert str(caught.value) == "MongoDB refused: *** with *** at ***, not *** may not drop"


def test_durable_writes_wait_for_the_journal(database: Database[dict[str, Any]]) -> None:
    concern = durable(database["labels"]).write_concern
    assert concern.document == {"w": "majority", "j": True}
    assert durable(database["labels"]).insert_one({"_id": 1}).acknowledged


def test_the_fixture_database_is_this_tests_own(database: Database[dict[str, Any]]) -> None:
    assert database.list_collection_names() == []
    assert isinstance(database.client, MongoClient)
