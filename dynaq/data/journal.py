"""Answers that were paid for, on this machine's disk until MongoDB has accounted for and stored them.

A reply goes into a file before anything else is done with it. Where MongoDB is gone, or the process killed, the file
stays, and whoever labels next in this ``workdir`` does what is left to do. Done twice it is done once: an account knows
the groups of replies that were entered, and a label is a document with the question as its id.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import IO, Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON

from dynaq.data.claims import Claims
from dynaq.data.labels import LabelRecord, LabelStore, as_document
from dynaq.data.ledger import Ledger, Spent

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

    @contextmanager
    def entry(self, spent: Spent, records: Sequence[LabelRecord]) -> Iterator[str]:
        """Keep a group of replies on disk while the block accounts for and stores them, and longer if it cannot.

        Yields:
            What the account is to know the group by.
        """
        group = secrets.token_hex(8)
        path = self._directory / f"{group}.bson"
        aside = path.with_suffix(".new")
        labels = [as_document(record) for record in records]
        entry = bson.encode({"account": self._ledger.account, "spent": asdict(spent), "labels": labels})
        with ExitStack() as ours:
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
                file = ours.enter_context(FileIO(aside, "w"))
                _lock(file, fcntl.LOCK_EX)  # as long as we live and are about it
                # Not flushed to the disk: this is for a process that is killed, not for a machine.
                if file.write(entry) < len(entry):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                aside.replace(path)
            except OSError as error:  # MongoDB is the better place anyway
                with suppress(OSError):
                    aside.unlink(missing_ok=True)
                log.warning("paid labels cannot be kept in %s meanwhile: %s", self._directory, error.strerror)
            yield group
            with suppress(OSError):
                path.unlink()

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
                    self._redo(path, file.read())

    def _redo(self, path: Path, content: bytes) -> None:
        try:
            entry = bson.decode(content, codec_options=_AWARE)
            spent, labels = Spent(**entry["spent"]), entry["labels"]
        except (InvalidBSON, KeyError, TypeError):  # the machine lost its power, or the disk rots
            damaged = path.rename(path.with_suffix(".damaged"))
            log.warning("paid labels that an interrupted run had left are damaged, and kept in %s", damaged)
            return
        self._ledger.of(entry["account"]).add(spent, path.stem)
        stored = len(labels) - len(self._store.insert(labels))
        path.unlink()
        if stored:
            log.info("%d paid labels that an interrupted run had left are stored now", stored)


def _lock(file: IO[bytes], kind: int) -> None:
    """Wait for a lock, which is ours until the file is closed or we are killed."""
    try:
        fcntl.lockf(file, kind)
    except OSError as error:  # what is done twice is done once
        log.debug("no locks in this file system: %s", error.strerror)
