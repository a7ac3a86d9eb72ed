"""A disk that is full: one sentence, nothing half-written under a final name, and once there is room it goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from dynaq.artifacts import publish
from dynaq.config_file import load_config
from dynaq.data.connection import durable, open_database
from dynaq.errors import ArtifactError, InputError, TransientError
from dynaq.tracking.checkpoint import load_checkpoint, save_checkpoint
from dynaq.tracking.mlflow_tracker import RunRecord
from dynaq.tracking.progress import Progress
from dynaq.tracking.spool import put, waiting
from tests.checkpoints import a_manifest
from tests.data.conftest import Extraction, Fill
from tests.paths import BASE_CONFIG

SENTENCE = (
    r"^there is no room to write into {}: the file system mounted at \S+ has [\d.,]+ of [\d.,]+ MB free; make room"
    r" there, or set workdir to another file system, and run again: what is finished is reused$"
)


@contextmanager
def no_room(bytes_a_file: int) -> Iterator[None]:
    """No file of this process may grow beyond; the errors are those of a full disk but for the number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_weights(target: Path) -> Path:
    return save_checkpoint(target, {"q": torch.ones(100_000)}, a_manifest(), {})


def save_archive(target: Path) -> Path:
    with publish(target) as directory:
        np.savez(directory / "run.npz", rewards=np.ones(100_000))
    return target


def save_words(target: Path) -> Path:
    with publish(target) as directory:
        (directory / "report.md").write_text("word " * 100_000)
    return target


Save = Callable[[Path], Path]


@pytest.mark.parametrize("save", [save_weights, save_archive, save_words])
def test_a_result_is_whole_or_absent(save: Save, tmp_path: Path) -> None:
    with no_room(50_000), pytest.raises(ArtifactError, match=SENTENCE.format(tmp_path)):
        save(tmp_path / "result")
    assert list(tmp_path.iterdir()) == []
    assert save(tmp_path / "result").exists()


def test_an_extraction_leaves_no_snapshot(fill: Fill, extraction: Extraction, tmp_path: Path) -> None:
    fill()
    with no_room(600), pytest.raises(ArtifactError, match=SENTENCE.format(tmp_path / "snapshots")):
        extraction()
    assert list((tmp_path / "snapshots").iterdir()) == []
    assert extraction().exists()


def test_a_record_for_mlflow_is_whole_or_absent(tmp_path: Path) -> None:
    config = load_config(BASE_CONFIG, {"workdir": str(tmp_path)})
    record = RunRecord(key="night", name="night", started=1, curves={"reward": [0.5] * 20_000})
    with no_room(20_000), pytest.raises(ArtifactError, match=SENTENCE.format(tmp_path / "spool")):
        put(config, record)
    assert list((tmp_path / "spool").iterdir()) == []
    put(config, record)
    assert len(waiting(config)) == 1


def test_work_under_way_goes_on_without_being_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress(tmp_path / "run.progress", tmp_path, 20.0)
    progress.save({"step": torch.tensor(1)})
    with no_room(20_000):
        progress.save({"step": torch.ones(100_000)})
    assert "cannot be saved" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["run.progress"]
    found = progress.load()
    assert found is not None
    assert found["step"] == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 60 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this account may not mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_file_system_is_named_and_mongod_keeps_what_it_acknowledged(small_disk: Path) -> None:
    config, written = load_config(BASE_CONFIG).mongo, 0

    def fill_it() -> None:
        nonlocal written
        with open_database(config, small_disk) as database:
            for _ in range(1000):
                durable(database["labels"]).insert_one({"text": os.urandom(500_000)})
                written += 1

    with pytest.raises(TransientError):
        fill_it()
    assert 10 < written < 1000
    with suppress(OSError), (small_disk / "other").open("wb", buffering=0) as other:
        while other.write(bytes(100_000)):  # recovery may have made some room
            pass
    full = rf"mongod did not start: there is no room: the file system mounted at {small_disk} has"
    with pytest.raises(InputError, match=full), open_database(config, small_disk):
        pass
    with pytest.raises(ArtifactError, match=rf"mounted at {small_disk} has 0.\d of 6\d MB free"):
        save_weights(small_disk / "checkpoints" / "result")
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    assert load_checkpoint(save_weights(small_disk / "checkpoints" / "result"), None).tensors["q"].sum() == 100_000
    with open_database(config, small_disk) as database:
        assert database["labels"].count_documents({}) in (written, written + 1)
        os.kill(database.client.admin.command("serverStatus")["pid"], signal.SIGKILL)  # its disk is taken away
