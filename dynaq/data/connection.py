"""The way to MongoDB: the server named by MONGODB_URI, else an embedded one; errors without secrets."""

from __future__ import annotations

import logging
import os
import re
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from bson.errors import BSONError
from dns.exception import DNSException
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    CursorNotFound,
    InvalidName,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.write_concern import WriteConcern

from dynaq.config import MongoConfig
from dynaq.data.embedded import embedded_server
from dynaq.errors import ConfigError, DynaqError, InputError, TransientError

logging.getLogger("pymongo").setLevel(logging.WARNING)  # below, it logs host names and documents

_REFUSED_CODES = {13, 18, 8000}  # Unauthorized, AuthenticationFailed, and Atlas' own word for both
_POOL_SIZE = 32
_DUPLICATE_KEY = 11000

# What stands in a driver's message, and how it is reported: never its text, which names hosts.
_REASONS = {
    r"connection refused": "connection refused",
    r"name or service not known|name resolution|nodename|getaddrinfo|query name": "name not found",
    r"ssl handshake|certificate": "TLS handshake failed (Atlas does so to addresses outside its access list)",
    r"not primary|no primary|no replica set members": "no primary",
    r"cursor id": "cursor lost",
    r"shutdown|shutting down": "server shutting down",
    r"connection closed|connection reset|broken pipe": "connection closed",
}
# Also of the other hosts of a cluster, which the URI need not name.
_ADDRESS = r"mongodb(\+srv)?://\S+|([\w-]+\.)+[\w-]+:\d+|localhost:\d+|[\w.-]+\.mongodb\.net"


MongoDatabase = Database[dict[str, Any]]


@contextmanager
def open_database(config: MongoConfig, workdir: Path) -> Iterator[MongoDatabase]:
    """Yield the configured database, of MONGODB_URI's server or of the one embedded under ``workdir``.

    May be nested, and called from threads and processes at once; the client must not be used across a fork.
    Errors of MongoDB in the with-body are translated as by mongo_errors.

    Raises:
        ConfigError: MONGODB_URI or the name of the database cannot be used, or the server refuses its user.
        InputError, MissingDependencyError: the embedded server cannot start.
        TransientError: the server does not answer within ``config.timeout_s``.
    """
    server: AbstractContextManager[str]
    if "MONGODB_URI" in os.environ:
        server = nullcontext(_configured_uri())
    else:
        server = embedded_server(workdir / "mongodb")
    with server as uri, _connect(uri, config.timeout_s) as client, mongo_errors():
        try:
            client.admin.command("ping")
        except ServerSelectionTimeoutError as error:
            raise TransientError(
                f"{_server()} did not answer within {config.timeout_s:g} s: {_reason(error)}"
            ) from None
        try:
            database = client[config.database]
        except InvalidName as error:
            raise ConfigError(f"mongo.database is {config.database!r}: {error}") from None
        yield database


def durable(collection: Collection[dict[str, Any]]) -> Collection[dict[str, Any]]:
    """The same collection for what was paid for or learned: writes wait for a majority's disks, reads see them."""
    written = WriteConcern(w="majority", j=True)
    return collection.with_options(write_concern=written, read_preference=ReadPreference.PRIMARY)


def only_duplicates(error: BulkWriteError) -> bool:
    """Whether a write failed on nothing but documents that were there already."""
    details = error.details
    codes = {failed["code"] for failed in details.get("writeErrors", [])}
    return codes == {_DUPLICATE_KEY} and not details.get("writeConcernErrors")


@contextmanager
def mongo_errors() -> Iterator[None]:
    """Translate errors of MongoDB in the with-body, or in a decorated function; other errors pass.

    Raises:
        TransientError: the connection failed, timed out or lost its primary.
        ConfigError: the server refuses the user.
        InputError: any other refusal, in the server's words.
    """
    try:
        yield
    except (PyMongoError, BSONError) as error:
        raise _translated(error) from None


def _configured_uri() -> str:
    uri = os.environ["MONGODB_URI"].strip()
    if not uri.startswith(("mongodb://", "mongodb+srv://")):
        raise ConfigError(
            "MONGODB_URI must start with mongodb:// or mongodb+srv://; unset it to use the embedded server"
        )
    return uri


def _connect(uri: str, timeout_s: float) -> MongoClient[dict[str, Any]]:
    milliseconds = round(timeout_s * 1000)
    try:
        return MongoClient(
            uri,
            appname="dynaq",
            tz_aware=True,
            maxPoolSize=_POOL_SIZE,
            connectTimeoutMS=milliseconds,
            serverSelectionTimeoutMS=milliseconds,
        )
    except (PyMongoError, ValueError, OSError) as error:
        if isinstance(error.__cause__, DNSException):  # a mongodb+srv address is looked up at once
            raise TransientError(f"{_server()} cannot be looked up: {_reason(error)}") from None
        raise ConfigError(
            "MONGODB_URI cannot be used: check its host, port and options, percent-encode special characters"
            " in user and password, and see that the files it names exist"
        ) from None


def _translated(error: Exception) -> DynaqError:
    if isinstance(error, OperationFailure) and error.code in _REFUSED_CODES:
        return ConfigError(f"{_server()} refuses its user: {_words(error)}")
    if isinstance(error, ConnectionFailure | CursorNotFound) or getattr(error, "timeout", False):
        return TransientError(f"{_server()} did not answer or dropped the connection: {_reason(error)}")
    return InputError(f"MongoDB refused: {_words(error)}")


def _server() -> str:
    return "the MongoDB named by MONGODB_URI" if "MONGODB_URI" in os.environ else "the embedded MongoDB"


def _reason(error: Exception) -> str:
    text = str(error).lower()
    return next((reason for pattern, reason in _REASONS.items() if re.search(pattern, text)), "timeout")


def _words(error: Exception) -> str:
    """What the server or driver said, shortened, without addresses and credentials."""
    text = str(error)
    if isinstance(error, OperationFailure) and error.details:
        refused = error.details.get("writeErrors") if isinstance(error, BulkWriteError) else None
        text = str((refused or [error.details])[0].get("errmsg", text))
    return textwrap.shorten(_without_secrets(text), 300)


def _without_secrets(text: str) -> str:
    login_and_hosts = os.environ.get("MONGODB_URI", "").partition("//")[2].split("/")[0].split("?")[0]
    quoted = re.split("[:@,]", login_and_hosts)
    for secret in {*quoted, *map(unquote_plus, quoted)} - {""}:
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return re.sub(_ADDRESS, "***", text)
