"""What is read from disk, from MLflow or from Prefect's storage is data, never code."""

from __future__ import annotations

import ast
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dynaq.agents import stages
from dynaq.agents.arms import Arm
from dynaq.agents.state import learned, load_learned
from dynaq.config_file import load_config
from dynaq.data.snapshot import Snapshot
from dynaq.errors import ArtifactError
from dynaq.evaluation.online import read_online
from dynaq.tracking.checkpoint import load_checkpoint, save_checkpoint
from dynaq.tracking.progress import Progress
from tests.checkpoints import a_manifest
from tests.paths import BASE_CONFIG, ROOT

EXECUTES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
CALLS = {("torch", "load"), ("torch", "save"), ("yaml", "load")}


class Payload:
    """Whoever unpickles it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    fuse = Payload(tmp_path / "tried")
    pickle.loads(pickle.dumps(fuse))
    assert fuse.mark.exists()  # it works
    return Payload(tmp_path / "executed")


def test_no_source_reads_what_executes() -> None:
    sources = [path for package in ("dynaq", "tasks", "flows") for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 100
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    assert EXECUTES.isdisjoint(each.name for each in names), path
                case ast.ImportFrom(module=module):
                    assert module not in EXECUTES, path
                case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                    assert (name, attribute) not in CALLS, path
                case ast.Call(func=ast.Name(id=name)):
                    assert name not in ("eval", "exec"), path
                case ast.keyword(arg="allow_pickle"):
                    pytest.fail(f"{path} unpickles arrays")


def test_weights_that_are_a_pickle(tmp_path: Path, payload: Payload) -> None:
    manifest = a_manifest()
    path = save_checkpoint(tmp_path / "checkpoint", {"q": torch.zeros(1)}, manifest, {})
    torch.save(payload, path / "weights.safetensors")
    stamp = hashlib.sha256((path / "weights.safetensors").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(manifest.model_copy(update={"weights": stamp}).model_dump_json())
    with pytest.raises(ArtifactError):
        load_checkpoint(path, None)
    assert Progress(path / "weights.safetensors", tmp_path, 20.0).load() is None
    assert not payload.mark.exists()


def test_arrays_that_are_pickles(tmp_path: Path, payload: Payload) -> None:
    objects = np.array([payload], dtype=object)
    np.savez(tmp_path / "run.npz", rewards=objects, chances=objects, best=objects, ndcg=objects)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ArtifactError, match="allow_pickle"):
        read_online(tmp_path)
    assert not payload.mark.exists()


@pytest.mark.parametrize("damage", ["absent", "shape", "type"])
def test_weights_of_another_schema(small_snapshot: Snapshot, tmp_path: Path, damage: str) -> None:
    config = load_config(BASE_CONFIG, {"workdir": str(tmp_path), "agent.hidden": [8]})
    agent = stages.new_agent(config, small_snapshot, Arm("cosine", 0.3, 0))
    whole = learned(agent)
    load_learned(agent, whole, "whole")
    for name in whole:
        other = dict(whole)
        tensor = other.pop(name)
        if damage == "shape":
            other[name] = torch.cat([tensor.reshape(-1), tensor.new_zeros(1)])
        elif damage == "type":
            other[name] = tensor.to(torch.float16)
        with pytest.raises(ArtifactError):
            load_learned(agent, other, "damaged")
