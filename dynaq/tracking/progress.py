"""Work under way, saved every now and then: one file, replaced as a whole: sha256, then tensors as safetensors."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dynaq.artifacts import set_aside

log = logging.getLogger(__name__)

_DIGEST = 32  # bytes


class Progress:
    """Saved tensors in a file.

    Args:
        path: where; its directory is made.
        workdir: a damaged file is set aside under it.
        every_s: seconds between saves: what a killed process loses at most.
    """

    def __init__(self, path: Path, workdir: Path, every_s: float) -> None:
        self._path = path
        self._workdir = workdir
        self._every_s = every_s
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last save, or the start, is long enough ago."""
        return time.monotonic() - self._last >= self._every_s

    def save(self, tensors: dict[str, Tensor]) -> None:
        """Replace what was saved; a process killed meanwhile, or a full disk, leaves the old file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            # Views of one storage are refused by the format, so everything is copied.
            content = save({name: torch.clone(t.contiguous()) for name, t in tensors.items()})
            with written.open("wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
                file.flush()
                os.fsync(file.fileno())
            written.replace(self._path)
        except (OSError, SafetensorError) as error:
            log.warning("%s cannot be saved (%s): the work goes on, and would begin anew if killed", self._path, error)
        finally:
            written.unlink(missing_ok=True)  # of a save that failed
        self._last = time.monotonic()

    def load(self) -> dict[str, Tensor] | None:
        """What was saved; None if nothing was, or if it is damaged: it is set aside then, and the work begins anew."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            set_aside(self._path, self._workdir, str(error))
            return None
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            set_aside(self._path, self._workdir, "its digest is another")
            return None
        return load(content[_DIGEST:])

    def forget(self) -> None:
        """Delete what was saved."""
        self._path.unlink(missing_ok=True)
