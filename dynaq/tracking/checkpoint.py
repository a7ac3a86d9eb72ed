"""Checkpoints: weights as safetensors beside a manifest that says what they were trained on.

A checkpoint directory holds weights.safetensors, manifest.json and curves.json.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dynaq.artifacts import code_version, mark_used, publish
from dynaq.errors import ArtifactError

CHECKPOINT_FORMAT: Final = 2
_RETRAIN = "run the flow that trains it (pretrain or finetune), which sets a damaged one aside"


class CheckpointManifest(BaseModel):
    """Where the weights come from.

    Attributes:
        format: layout of the directory, CHECKPOINT_FORMAT.
        stage: the stage that wrote it, pretrain or finetune.
        agent: the warm start it belongs to.
        gamma: discount it was trained with.
        seed: seed it was trained with.
        snapshot: digest of the snapshot it was trained on; its rows mean nothing on another one.
        rewards: provenance of each reward it has learnt from, in order.
        labels: distinct LLM labels it has consumed.
        cost: what those labels cost: calls made, taken from the store, missing by kind, tokens. Of an agent that was
            killed, what it had paid for after it last saved itself counts as taken from the store.
        gradient_steps: steps of the optimiser in all its stages, on real answers and on imagined ones.
        config: the configuration of the agent and of the stage.
        code: version of the code.
        weights: sha256 of weights.safetensors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = CHECKPOINT_FORMAT
    stage: str
    agent: str
    gamma: float
    seed: int
    snapshot: str
    rewards: list[str]
    labels: int
    cost: dict[str, int]
    gradient_steps: int
    config: dict[str, Any]
    code: str = Field(default_factory=code_version)
    weights: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back: tensors by name, manifest, and training curves by metric (None where undefined)."""

    path: Path
    tensors: dict[str, Tensor]
    manifest: CheckpointManifest
    curves: dict[str, list[float | None]]


def save_checkpoint(
    target: Path,
    tensors: dict[str, Tensor],
    manifest: CheckpointManifest,
    curves: dict[str, list[float | None]],
) -> Path:
    """Write a checkpoint directory, whole or not at all."""
    with publish(target) as directory:
        save_file(tensors, directory / "weights.safetensors")
        weights = hashlib.sha256((directory / "weights.safetensors").read_bytes()).hexdigest()
        stamped = manifest.model_copy(update={"weights": weights})
        (directory / "manifest.json").write_text(stamped.model_dump_json(indent=2) + "\n")
        (directory / "curves.json").write_text(json.dumps(curves, allow_nan=False) + "\n")
    return target


def load_checkpoint(path: Path, snapshot: str | None) -> Checkpoint:
    """Read a checkpoint made on the snapshot with the given digest; on any, if none is given.

    Raises:
        ArtifactError: there is none, it is damaged, of another format, or of another snapshot.
    """
    manifest = read_manifest(path)
    if snapshot is not None and manifest.snapshot != snapshot:
        raise ArtifactError(
            f"checkpoint {path.name} was trained on snapshot {manifest.snapshot[:16]}, not on {snapshot[:16]}:"
            " train on this snapshot, or name the snapshot it belongs to"
        )
    file = path / "weights.safetensors"
    try:
        if hashlib.sha256(file.read_bytes()).hexdigest() != manifest.weights:
            raise ArtifactError(f"checkpoint {path}: weights.safetensors is damaged: {_RETRAIN}")
        tensors = load_file(file)
        curves = json.loads((path / "curves.json").read_text())
    except (OSError, SafetensorError, ValueError) as error:
        raise ArtifactError(f"checkpoint {path} cannot be read ({error}): {_RETRAIN}") from None
    mark_used(path)
    return Checkpoint(path, tensors, manifest, curves)


def read_manifest(path: Path) -> CheckpointManifest:
    """Read only the manifest; raises ArtifactError as ``load_checkpoint`` does."""
    try:
        text = (path / "manifest.json").read_text(errors="replace")
    except OSError:
        raise ArtifactError(f"there is no checkpoint in {path}") from None
    try:
        found = json.loads(text)
    except ValueError:
        raise ArtifactError(f"checkpoint {path}: manifest.json is damaged: {_RETRAIN}") from None
    version = found.get("format") if isinstance(found, dict) else None
    if version != CHECKPOINT_FORMAT:
        raise ArtifactError(
            f"checkpoint {path} has format {version!r}, this version of dynaq reads {CHECKPOINT_FORMAT}: retrain it"
        )
    try:
        return CheckpointManifest.model_validate(found)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, issue["loc"])) for issue in error.errors())
        raise ArtifactError(f"checkpoint {path}: manifest.json has wrong fields: {fields}") from None
