"""Reading a snapshot: what it gives, and one clear sentence for whatever is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynaq.config import ExtractConfig, MongoConfig
from dynaq.data.manifest import MANIFEST, check_matches
from dynaq.data.snapshot import Snapshot, latest_snapshot, open_snapshot
from dynaq.errors import ArtifactError, InputError


def test_a_field_is_a_slice_of_columns(snapshot: Snapshot) -> None:
    assert snapshot.field_slice("applicants", "hard_skills") == slice(0, 8)
    assert snapshot.field_slice("jobs", "skills") == slice(8, 16)
    assert snapshot.manifest.offset("jobs", "skills") == 8
    with pytest.raises(InputError, match=r"has no field pay among its jobs, only \['title', 'skills'\]"):
        snapshot.field_slice("jobs", "pay")


def test_matrices_are_mapped_and_read_only(snapshot: Snapshot) -> None:
    assert isinstance(snapshot.jobs, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        snapshot.jobs[0, 0] = 1


def test_texts_are_in_row_order(snapshot: Snapshot) -> None:
    assert list(snapshot.job_texts) == [{"title": f"title of {each}", "remote": "yes"} for each in snapshot.job_ids]
    assert snapshot.applicant_texts[0] == {"hard_skills": "python, applicant-0", "place": "Oslo"}


def change_manifest(path: Path, **changes: Any) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(manifest | changes))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / MANIFEST).unlink(), "manifest.json: No such file"),
        (lambda path: cut(path / MANIFEST), "manifest.json is damaged"),
        (lambda path: (path / MANIFEST).write_text("[]"), "has format None, only 1 is read"),
        (lambda path: change_manifest(path, format=2), "has format 2, only 1 is read"),
        (lambda path: change_manifest(path, jobs="many"), r"manifest.json is damaged \(jobs: "),
        (lambda path: change_manifest(path, jobs=13), "jobs_vectors.f32 does not hold 13 x 16 numbers"),
        (lambda path: change_manifest(path, files={}), "applicants_vectors.f32 is not listed"),
        (lambda path: (path / "jobs_ids.json").unlink(), "jobs_ids.json: No such file"),
        (lambda path: cut(path / "jobs_vectors.f32"), "jobs_vectors.f32 has 767 bytes instead of 768"),
        (lambda path: flip(path / "jobs_ids.json"), "jobs_ids.json is damaged"),
    ],
)
def test_damage_is_refused(snapshot: Snapshot, damage: Callable[[Path], None], message: str) -> None:
    damage(snapshot.path)
    with pytest.raises(ArtifactError, match=message):
        open_snapshot(snapshot.path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: flip(path / "applicants_vectors.f32"), "applicants_vectors.f32 has another content"),
        (lambda path: change_manifest(path, job_fields=["skills", "title"]), "manifest.json was changed"),
    ],
)
def test_verification_finds_what_sizes_do_not_show(
    snapshot: Snapshot, damage: Callable[[Path], None], message: str
) -> None:
    open_snapshot(snapshot.path, verify=True)
    damage(snapshot.path)
    open_snapshot(snapshot.path)
    with pytest.raises(ArtifactError, match=message):
        open_snapshot(snapshot.path, verify=True)


def test_damaged_texts_are_refused_when_read(snapshot: Snapshot) -> None:
    texts = snapshot.path / "jobs_texts.jsonl"
    texts.write_bytes(texts.read_bytes().replace(b"\n", b" ", 1))
    with pytest.raises(ArtifactError, match=r"jobs_texts.jsonl has \d+ entries instead of"):
        _ = snapshot.job_texts


def test_another_configuration_is_refused(
    snapshot: Snapshot, mongo_names: MongoConfig, extract_config: ExtractConfig
) -> None:
    check_matches(snapshot.manifest, mongo_names, extract_config)
    digest = snapshot.manifest.digest[:16]
    for changes, said in (
        ({"dimension": 16}, "dimension 8 instead of 16"),
        ({"job_fields": ["title"]}, r"job_fields \['title', 'skills'\] instead of \['title'\], job_vectors"),
        ({"cosine_pairs": [["hard_skills", "title"]]}, "cosine kind='pairs'"),
    ):
        with pytest.raises(ArtifactError, match=f"snapshot {digest} .* {said}.*: run the extract flow with this"):
            check_matches(snapshot.manifest, mongo_names, extract_config.model_copy(update=changes))
    for changes, said in (
        ({"database": "other"}, f"database {mongo_names.database} instead of other"),
        ({"applicant_vectors": {"hard_skills": "vector"}}, r"\['hard_skill_embeddings'\] instead of \['vector'\]"),
    ):
        with pytest.raises(ArtifactError, match=said):
            check_matches(snapshot.manifest, mongo_names.model_copy(update=changes), extract_config)


def test_no_snapshot_at_all(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        open_snapshot(tmp_path / "nowhere")
    for out_root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ArtifactError, match=r"there is no snapshot under .*: run the extract flow"):
            latest_snapshot(out_root)


def test_foreign_snapshots_are_passed_over(snapshot: Snapshot) -> None:
    out_root = snapshot.path.parent
    assert latest_snapshot(out_root) == snapshot.path
    change_manifest(snapshot.path, format=2)
    with pytest.raises(ArtifactError, match="there is no snapshot"):
        latest_snapshot(out_root)


def test_an_unpublished_snapshot_is_never_the_latest(snapshot: Snapshot) -> None:
    snapshot.path.rename(snapshot.path.with_name(".writing@elsewhere@1@abcd"))
    with pytest.raises(ArtifactError, match="there is no snapshot"):
        latest_snapshot(snapshot.path.parent)
