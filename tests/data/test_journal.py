"""What was paid for is on disk until MongoDB has it, and done once however often it is done."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo.database import Database

from dynaq.data.failures import FailureRecord, FailureStore
from dynaq.data.journal import Entry, Journal
from dynaq.data.labels import LabelStore, as_document
from dynaq.data.ledger import Ledger, Spent
from dynaq.errors import TransientError
from tests.data.test_disk_full import no_room
from tests.data.test_labels import KEY, record
from tests.paths import ROOT

SPENT = Spent(calls=2, labels=1, prompt_tokens=300, cached_tokens=200, completion_tokens=20)
ONE, OTHER = Spent(1, 1, 200, 200, 10), Spent(1, 0, 100, 0, 10)  # the label, and a refusal
FAILED = FailureRecord(KEY._replace(revision="", job_hash="c" * 64), "a", "j", "refusal", datetime.now(UTC))


def entered(journal: Journal) -> Entry:
    """Both on disk, one after the other."""
    entry = journal.entry()
    entry.add(ONE, [record()], [])
    entry.add(OTHER, [], [FAILED])
    return entry


@pytest.mark.parametrize("done", ["nothing", "charged", "stored"])
def test_what_was_left_is_done_by_the_next_one(database: Database[dict[str, Any]], tmp_path: Path, done: str) -> None:
    store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], "tonight")

    def interrupted() -> None:
        with entered(Journal(tmp_path, store, ledger)) as group:
            if done != "nothing":
                ledger.add(SPENT, group)
            if done == "stored":
                store.put([record()])
            raise TransientError("MongoDB did not answer")

    with pytest.raises(TransientError):
        interrupted()
    assert len(list(tmp_path.rglob("*.bson"))) == 1
    Journal(tmp_path, store, ledger.of("tomorrow")).redo()
    assert ledger.total() == SPENT
    assert ledger.of("tomorrow").total() == Spent()
    assert store.find([KEY]) == {KEY: record()}
    assert FailureStore(store).find([FAILED.key, KEY]) == {FAILED.key: "refusal"}
    assert list(tmp_path.rglob("*.*son")) == []


def test_what_was_done_leaves_nothing(database: Database[dict[str, Any]], tmp_path: Path) -> None:
    store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], "tonight")
    with entered(Journal(tmp_path, store, ledger)) as group:
        assert len(list(tmp_path.rglob(f"{group}.bson"))) == 1
    assert list(tmp_path.rglob("*.bson")) == []


def test_labels_of_another_database_stay_where_they_are(database: Database[dict[str, Any]], tmp_path: Path) -> None:
    store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], "tonight")
    elsewhere = tmp_path / "other.llm_feedback"
    elsewhere.mkdir()
    (elsewhere / "1.bson").write_bytes(b"")
    Journal(tmp_path, store, ledger).redo()
    assert (elsewhere / "1.bson").exists()


@pytest.mark.parametrize("content", [b"", b"\x05\x00", bson.encode({"account": "tonight"})])
def test_a_damaged_entry_is_named_and_stops_nobody(
    database: Database[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], "tonight")
    directory = tmp_path / store.name
    directory.mkdir()
    (directory / "1.bson").write_bytes(content)
    (directory / "2.bson").write_bytes(
        bson.encode({"account": "tonight", "spent": asdict(SPENT), "labels": [as_document(record())]})
    )
    Journal(tmp_path, store, ledger).redo()
    assert (directory / "1.damaged").read_bytes() == content
    assert str(directory / "1.damaged") in caplog.text
    assert ledger.total() == SPENT
    assert store.find([KEY]) == {KEY: record()}


def test_a_disk_that_cannot_be_written_stops_no_payment(
    database: Database[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], "tonight")
    (tmp_path / "file").write_text("")
    with entered(Journal(tmp_path / "file", store, ledger)) as group:
        ledger.add(SPENT, group)
    assert ledger.total() == SPENT
    assert "paid labels cannot be kept in" in caplog.text
    caplog.clear()
    with no_room(100), entered(Journal(tmp_path, store, ledger)) as group:
        ledger.add(SPENT, group)
    assert ledger.total().labels == 2
    assert "paid labels cannot be kept in" in caplog.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "file"]


def test_what_does_not_fit_any_more_spoils_nothing_before_it(
    database: Database[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], "tonight")
    entry = Journal(tmp_path, store, ledger).entry()
    entry.add(ONE, [record()], [])
    (path,) = tmp_path.rglob("*.bson")
    with no_room(path.stat().st_size + 50):
        entry.add(OTHER, [record(raw_reply="?" * 200)], [])
    entry.add(OTHER, [], [FAILED])
    assert caplog.text.count("paid labels cannot be kept in") == 1
    with suppress(TransientError), entry:
        raise TransientError("MongoDB did not answer")
    Journal(tmp_path, store, ledger).redo()
    assert ledger.total() == SPENT


def test_a_reply_cut_short_leaves_those_before_it(
    database: Database[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], "tonight")
    with suppress(TransientError), entered(Journal(tmp_path, store, ledger)):
        raise TransientError("MongoDB did not answer")
    (path,) = tmp_path.rglob("*.bson")
    path.write_bytes(path.read_bytes()[:-9])
    Journal(tmp_path, store, ledger).redo()
    assert (ledger.total(), store.find([KEY])) == (ONE, {KEY: record()})
    assert str(path.with_suffix(".damaged")) in caplog.text


def test_the_disk_has_it_only_where_mongodb_has_not(
    database: Database[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine may lose its power while MongoDB is gone; as long as it is there nobody waits for the disk."""
    store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], "tonight")
    flushed, fsync = list[str](), os.fsync

    def seen(descriptor: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    with entered(Journal(tmp_path, store, ledger)):
        pass
    assert flushed == []
    with suppress(TransientError), entered(Journal(tmp_path, store, ledger)) as group:
        raise TransientError("MongoDB did not answer")
    assert flushed == [f"{group}.bson", store.name]


WRITES = """
import sys, time
from pathlib import Path
from tests.data.test_journal import Journal, entered

class Named:
    name, account = "test.llm_feedback", "tonight"

with entered(Journal(Path(sys.argv[1]), Named, Named)):
    print("entered", flush=True)
    time.sleep(60)
"""


def test_who_needs_what_a_dying_process_was_answered_waits_for_its_end(
    database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    store, ledger = LabelStore(database["llm_feedback"]), Ledger(database["llm_spending"], "tonight")
    (tmp_path / store.name).symlink_to(tmp_path / "test.llm_feedback")
    command = [sys.executable, "-c", WRITES, str(tmp_path)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"entered\n"
        threading.Timer(0.3, child.kill).start()
        began = time.monotonic()
        Journal(tmp_path, store, ledger).redo()
        assert time.monotonic() - began > 0.2
    assert ledger.total() == SPENT
    assert store.find([KEY]) == {KEY: record()}
