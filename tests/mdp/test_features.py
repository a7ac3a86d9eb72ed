"""Rows at unit scale: computed once, mapped by everybody, never written to."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dynaq.data.snapshot import Snapshot, open_snapshot
from dynaq.mdp import features
from dynaq.mdp.features import FeatureSpace, unit_scale


@pytest.fixture
def snapshot(small_snapshot: Snapshot, tmp_path: Path) -> Snapshot:
    return open_snapshot(shutil.copytree(small_snapshot.path, tmp_path / "snapshot"))


def test_every_field_has_length_root_d(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_CHUNK", 7)  # of 80 rows: the last one is shorter
    for path in snapshot.path.glob("*_unit_scale.f32"):
        path.unlink()
    space, d = FeatureSpace.of(snapshot), snapshot.manifest.dimension
    for rows, scaled in ((snapshot.applicants, space.states), (snapshot.jobs, space.actions)):
        fields = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1, d)
        expected = d**0.5 * fields / np.linalg.norm(fields, axis=2, keepdims=True)
        assert np.allclose(scaled.numpy().reshape(expected.shape), expected, atol=1e-5)
    assert torch.equal(space.actions, unit_scale(np.asarray(snapshot.jobs), d))


def test_it_is_written_once_and_a_change_in_memory_stays_there(snapshot: Snapshot) -> None:
    space = FeatureSpace.of(snapshot)
    written = {path: path.read_bytes() for path in snapshot.path.glob("*_unit_scale.f32")}
    before = space.states[0].clone()
    space.states[0] = 0.0
    assert torch.equal(FeatureSpace.of(snapshot).states[0], before)
    assert {path: path.read_bytes() for path in snapshot.path.iterdir() if path in written} == written
    assert len(written) == 2
    assert not list(snapshot.path.glob(".writing*"))
