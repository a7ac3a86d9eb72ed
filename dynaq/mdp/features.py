"""States and actions as the networks see them: concatenated field vectors, each at unit scale."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynaq.artifacts import flush, staged
from dynaq.data.manifest import RECORD, SIDES, HashedFile, Side
from dynaq.data.snapshot import Snapshot

_CHUNK = 8192  # rows in memory at a time


@dataclass(frozen=True)
class FeatureSpace:
    """Every state and action of a snapshot, and which of their fields speak of the same thing.

    Attributes:
        states: float32 [N, number of applicant fields x d].
        actions: float32 [M, number of job fields x d].
        pairs: (offset in the state, offset in the action) of fields compared elementwise, each d wide.
        d: size of one field's vector.
    """

    states: Tensor
    actions: Tensor
    pairs: tuple[tuple[int, int], ...]
    d: int

    @classmethod
    def of(cls, snapshot: Snapshot) -> FeatureSpace:
        """Map a snapshot's rows, scaled once and kept beside them: no process holds a catalogue in memory of its own.

        Raises:
            ArtifactError: they cannot be written there.
        """
        manifest = snapshot.manifest
        d = manifest.dimension
        if manifest.cosine.kind == "pairs":
            fields = [(pair[0], pair[1]) for pair in manifest.cosine.pairs]
        else:
            fields = list(zip(manifest.applicant_fields, manifest.job_fields, strict=True))
        pairs = tuple((manifest.offset("applicants", a), manifest.offset("jobs", j)) for a, j in fields)
        states, actions = (_mapped(snapshot.path, side, getattr(snapshot, side), d) for side in SIDES)
        return cls(states, actions, pairs, d)


def _mapped(directory: Path, side: Side, rows: NDArray[np.float32], d: int) -> Tensor:
    """Rows at unit scale, copied on write: the file behind them stays as it is."""
    path = directory / f"{side}_unit_scale.f32"
    if not path.exists():
        with staged(directory) as aside, path.with_suffix(".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # gigabytes are written by one process, for all
            if not path.exists():
                _write(rows, d, aside / path.name)
                for name in (path.name + RECORD, path.name):
                    (aside / name).replace(path.with_name(name))
    return torch.from_numpy(np.memmap(path, np.float32, "c", shape=rows.shape))


def _write(rows: NDArray[np.float32], d: int, path: Path) -> None:
    with HashedFile(path) as file:
        for start in range(0, len(rows), _CHUNK):
            file.write(unit_scale(rows[start : start + _CHUNK], d).numpy().tobytes())
    flush(path)
    path.with_name(path.name + RECORD).write_text(file.record.model_dump_json())


def unit_scale(rows: NDArray[np.float32], d: int) -> Tensor:
    """Give each field of each row length sqrt(d), so that a component is of order 1 as network initialisers expect.

    Sentence vectors of length 1 have components near 1/sqrt(d) = 0.05; a first layer of default initialisation
    then sees almost nothing and the first thousand updates are spent growing weights.
    """
    fields = torch.tensor(np.asarray(rows)).reshape(len(rows), -1, d)
    scaled: Tensor = torch.nn.functional.normalize(fields, dim=2) * d**0.5
    return scaled.reshape(len(rows), -1)
