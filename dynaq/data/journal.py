"""Answers that were paid for, on this machine's disk until MongoDB has accounted for and stored them.

A reply goes into a file as it arrives, before anything else is done with it; those that are stored together share one.
Where MongoDB is gone, or the process killed, the file stays, and whoever labels next in this ``workdir`` does what is
left to do. Done twice it is done once: an account knows the groups of replies that were entered, and a label is a
document with the question as its id. A reply that is still on its way when its process is killed is lost.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON

from dynaq.artifacts import flush
from dynaq.data.claims import Claims
from dynaq.data.failures import FailureRecord, FailureStore, failure_document
from dynaq.data.labels import LabelRecord, LabelStore, as_document
from dynaq.data.ledger import Ledger, Spent, sum_of

log = logging.getLogger(__name__)

_AWARE = CodecOptions[dict[str, Any]](tz_aware=True)


class Journal:
    """Of one account and one collection of labels; any number of processes may share the directory.

    Attributes:
        claims: what each of them is asking.
    """

    def __init__(self, directory: Path, store: LabelStore, ledger: Ledger) -> None:
        """Neither reads nor writes yet."""
        self._directory, self._store, self._ledger = directory / store.name, store, ledger
        self.claims = Claims(self._directory / "claims")

    def entry(self) -> Entry:
        """A new group of replies; nothing is written before the first."""
        return Entry(self._directory, self._ledger.account)

    def redo(self) -> None:
        """Account for and store what others had to leave; what a living process is about is waited for.

        Raises:
            InputError: MongoDB refuses.
            TransientError: MongoDB did not answer.
        """
        for path in self._directory.glob("*.bson"):
            with suppress(FileNotFoundError), path.open("rb") as file:  # not found: another process did it
                _lock(file, fcntl.LOCK_SH)  # shared: whoever needs it may do it at once
                if os.fstat(file.fileno()).st_nlink:
                    self._redo(path, file)

    def _redo(self, path: Path, file: IO[bytes]) -> None:
        replies, whole = _replies(file)
        labels = [label for reply in replies for label in reply["labels"]]
        if replies:
            spent = sum_of(Spent(**reply["spent"]) for reply in replies)
            self._ledger.of(replies[0]["account"]).add(spent, path.stem)
            FailureStore(self._store).insert([each for reply in replies for each in reply.get("failures", [])])
            if stored := len(labels) - len(self._store.insert(labels)):
                log.info("%d paid labels that an interrupted run had left are stored now", stored)
        if whole:
            path.unlink()
        else:
            damaged = path.rename(path.with_suffix(".damaged"))
            log.warning("of what an interrupted run had paid for something is damaged, and kept in %s", damaged)


class Entry:
    """A group of replies on disk. A context manager around what accounts for and stores them.

    Attributes:
        group: what the account is to know it by.
    """

    def __init__(self, directory: Path, account: str) -> None:
        """Writes nothing yet."""
        self.group = secrets.token_hex(8)
        self._path, self._account = directory / f"{self.group}.bson", account
        self._file: FileIO | None = None

    def add(self, spent: Spent, labels: Sequence[LabelRecord], failures: Sequence[FailureRecord]) -> None:
        """Keep a reply; where that fails it is said, for MongoDB is the better place anyway.

        Not flushed to the disk: this is for a process that is killed, not for a machine.
        """
        documents = [as_document(record) for record in labels]
        failed = [failure_document(record) for record in failures]
        entry = {"account": self._account, "spent": asdict(spent), "labels": documents, "failures": failed}
        reply = bson.encode(entry)
        try:
            if self._file is None:
                self._begin(reply)
            else:
                _append(self._file, reply)
        except OSError as error:
            log.warning("paid labels cannot be kept in %s meanwhile: %s", self._path.parent, error.strerror)

    def _begin(self, reply: bytes) -> None:
        """Make the file; it has its name when it holds a reply and is locked, so that nobody takes it for left over."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".new")
        file = FileIO(aside, "w")
        try:
            _lock(file, fcntl.LOCK_EX)  # as long as we live and are about it
            _append(file, reply)
            aside.replace(self._path)
        except OSError:
            file.close()
            with suppress(OSError):
                aside.unlink()
            raise
        self._file = file

    def __enter__(self) -> str:
        """The group."""
        return self.group

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left where MongoDB has it; where it has not, the disk must: that may take hours."""
        if self._file is None:
            return
        with self._file, suppress(OSError):
            if kind is None:
                self._path.unlink()
            else:
                os.fsync(self._file.fileno())
                flush(self._path.parent)


def _replies(file: IO[bytes]) -> tuple[list[dict[str, Any]], bool]:
    """The replies in a file up to one that is damaged, and whether there is none such.

    The last one is where a process was killed in the middle of writing it, or a machine lost its power.
    """
    found = list[dict[str, Any]]()
    try:
        for reply in bson.decode_file_iter(file, codec_options=_AWARE):
            if not {"account", "spent", "labels"} <= reply.keys():
                return found, False
            found.append(reply)
    except InvalidBSON:
        return found, False
    return found, bool(found)


def _append(file: FileIO, content: bytes) -> None:
    """All of it or nothing."""
    before = file.tell()
    if file.write(content) < len(content):
        file.truncate(before)
        file.seek(before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _lock(file: IO[bytes], kind: int) -> None:
    """Wait for a lock, which is ours until the file is closed or we are killed."""
    try:
        fcntl.flock(file, kind)  # excludes threads too
    except OSError as error:  # what is done twice is done once
        log.debug("no locks in this file system: %s", error.strerror)
