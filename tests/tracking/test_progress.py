"""Work under way: what was saved comes back, a damaged file is said to be one, and a failed save harms nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from dynaq.tracking.progress import Progress


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "run.progress"


def test_what_was_saved_comes_back(file: Path) -> None:
    rows = torch.arange(12.0).reshape(3, 4)
    tensors = {"view": rows[1], "same storage": rows, "turned": rows.T, "step": torch.tensor(7), "none": rows[:0]}
    progress = Progress(file, file.parents[1], 20.0)
    progress.save({"step": torch.tensor(1), "gone": rows})
    progress.save(tensors)
    loaded = Progress(file, file.parents[1], 20.0).load()
    assert loaded is not None
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert [path.name for path in file.parent.iterdir()] == ["run.progress"]


def test_forgotten_is_as_never_saved(file: Path) -> None:
    progress = Progress(file, file.parents[1], 20.0)
    assert progress.load() is None
    progress.forget()
    progress.save({"step": torch.tensor(1)})
    progress.forget()
    assert progress.load() is None


def test_it_is_due_every_now_and_then(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 119.9, 120.0, 120.0, 139.9])
    monkeypatch.setattr("dynaq.tracking.progress.time.monotonic", lambda: next(clock))
    progress = Progress(file, file.parents[1], 20.0)
    assert not progress.due
    assert progress.due
    progress.save({"step": torch.tensor(1)})
    assert not progress.due


@pytest.mark.parametrize("damage", [0, 5, 60, -1, "flip"])
def test_a_damaged_file_is_set_aside_and_said_so(
    file: Path, damage: int | str, caplog: pytest.LogCaptureFixture
) -> None:
    Progress(file, file.parents[1], 20.0).save({"step": torch.tensor(1), "weights": torch.rand(50)})
    written = file.read_bytes()
    content = written[:damage] if isinstance(damage, int) else written[:-50] + b"?" + written[-49:]
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert Progress(file, file.parents[1], 20.0).load() is None
    assert "run.progress is damaged" in caplog.text
    (aside,) = (file.parents[1] / "damaged").iterdir()
    assert aside.name.startswith("run.progress-")
    assert aside.read_bytes() == content
    assert not file.exists()


def test_a_save_that_fails_is_said_and_leaves_the_old_one(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    progress = Progress(file, file.parents[1], 20.0)
    progress.save({"step": torch.tensor(1)})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dynaq.tracking.progress.os.fsync", full)
    with caplog.at_level(logging.WARNING):
        progress.save({"step": torch.tensor(2)})
    assert "No space left on device" in caplog.text
    loaded = progress.load()
    assert loaded is not None
    assert loaded["step"] == 1
    assert [path.name for path in file.parent.iterdir()] == ["run.progress"]
