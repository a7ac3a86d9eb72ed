"""Checkpoints come back bit for bit, say where they come from, and are whole or not there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dynaq.artifacts import code_version, publish
from dynaq.errors import ArtifactError
from dynaq.tracking.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from tests.checkpoints import SNAPSHOT, a_manifest

CURVES: dict[str, list[float | None]] = {"reward": [0.1, None, 1 / 3], "q_loss": []}


def tensors() -> dict[str, Tensor]:
    return {
        "q.weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "q.odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "world_model.count": torch.tensor(7),
    }


manifest = partial(
    a_manifest,
    stage="finetune",
    agent="hybrid",
    seed=2,
    rewards=["cosine", "llm:rule-sim-v1"],
    labels=512,
    cost={"calls": 500, "stored": 12},
    gradient_steps=4_000,
    config={"agent": {"gamma": 0.3, "hidden": [8]}},
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "checkpoints" / "hybrid", tensors(), manifest(), CURVES)


def test_what_is_saved_comes_back_bit_for_bit(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint, SNAPSHOT)
    expected = tensors()
    assert set(loaded.tensors) == set(expected)
    for name, tensor in loaded.tensors.items():
        assert (tensor.dtype, tensor.shape) == (expected[name].dtype, expected[name].shape)
        assert tensor.numpy().tobytes() == expected[name].numpy().tobytes()
    assert loaded.curves == CURVES
    weights = hashlib.sha256((checkpoint / "weights.safetensors").read_bytes()).hexdigest()
    assert loaded.manifest == read_manifest(checkpoint) == manifest(weights=weights)


def test_the_manifest_on_disk_says_where_the_weights_come_from(checkpoint: Path) -> None:
    written = json.loads((checkpoint / "manifest.json").read_text())
    assert written["code"] == code_version()
    assert written["snapshot"] == SNAPSHOT
    assert written["labels"] == 512
    assert written["rewards"] == ["cosine", "llm:rule-sim-v1"]
    assert written["config"] == {"agent": {"gamma": 0.3, "hidden": [8]}}


def test_the_same_checkpoint_is_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    again = save_checkpoint(tmp_path / "again", dict(reversed(tensors().items())), manifest(), CURVES)
    for path in checkpoint.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_a_checkpoint_of_another_snapshot_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ArtifactError, match=r"hybrid was trained on snapshot 5{16}, not on 6{16}: train on"):
        load_checkpoint(checkpoint, "6" * 64)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite_manifest(path: Path, **changes: Any) -> None:
    written = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(written | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: flip(path / "weights.safetensors"),
            "weights.safetensors is damaged: run the flow that trains it",
        ),
        (lambda path: (path / "weights.safetensors").write_bytes(b""), "weights.safetensors is damaged"),
        (
            lambda path: (path / "weights.safetensors").unlink(),
            "cannot be read .*No such file.*: run the flow that trains it",
        ),
        (lambda path: (path / "curves.json").unlink(), "cannot be read .*No such file.*: run the flow"),
        (lambda path: (path / "curves.json").write_text("{"), "cannot be read .*: run the flow"),
        (lambda path: (path / "manifest.json").unlink(), "there is no checkpoint in"),
        (lambda path: (path / "manifest.json").write_text('{"format": 1'), "manifest.json is damaged: run the flow"),
        (lambda path: (path / "manifest.json").write_text("[]"), "has format None, this version of dynaq reads 2"),
        (lambda path: rewrite_manifest(path, format=1), "has format 1, this version of dynaq reads 2: retrain it"),
        (lambda path: rewrite_manifest(path, labels="many", label=1), "manifest.json has wrong fields: labels, label$"),
        (lambda path: (path / "manifest.json").write_bytes(b"\xff\x00"), "manifest.json is damaged: run the flow"),
    ],
)
def test_damage_is_refused(checkpoint: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(checkpoint)
    with pytest.raises(ArtifactError, match=message):
        load_checkpoint(checkpoint, SNAPSHOT)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"there is no checkpoint in .*nowhere"):
        load_checkpoint(tmp_path / "nowhere", SNAPSHOT)


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def write_half(directory: Path) -> None:
        (directory / "weights.safetensors").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), publish(tmp_path / "target") as directory:
        write_half(directory)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path / "target", tensors(), manifest(), {"reward": [float("nan")]})
    assert list(tmp_path.iterdir()) == []


KILLED_WRITER = """
import sys, time
from pathlib import Path
from dynaq.artifacts import publish
with publish(Path(sys.argv[1])) as directory:
    (directory / "weights.safetensors").write_bytes(b"half")
    print("half", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    target = tmp_path / "target"
    writer = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(target)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer.stdout as output:
        assert output.readline() == "half\n"
        writer.kill()
        writer.wait()
    (left_over,) = tmp_path.iterdir()
    assert left_over.name.startswith(".writing@")
    save_checkpoint(target, tensors(), manifest(), CURVES)
    assert list(tmp_path.iterdir()) == [target]
    load_checkpoint(target, SNAPSHOT)


def test_the_first_of_two_writers_wins(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with publish(target) as slow:
        (slow / "weights").write_text("slow")
        with publish(target) as fast:
            (fast / "weights").write_text("fast")
    assert (target / "weights").read_text() == "fast"
    assert list(tmp_path.iterdir()) == [target]
