"""Work under way, saved every now and then: one file of tensors, replaced as a whole."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

log = logging.getLogger(__name__)

_EVERY_S = 20.0  # what a killed process loses at most; a save takes some hundredths of a second


class Progress:
    """Saved tensors in a file.

    Args:
        path: where; its directory is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last save, or the start, is long enough ago."""
        return time.monotonic() - self._last >= _EVERY_S

    def save(self, tensors: dict[str, Tensor]) -> None:
        """Replace what was saved; a process killed meanwhile, or a full disk, leaves the old file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            # Views of one storage are refused by the format, so everything is copied.
            save_file({name: torch.clone(t.contiguous()) for name, t in tensors.items()}, written)
            with written.open("rb") as file:
                os.fsync(file.fileno())
            written.replace(self._path)
        except (OSError, SafetensorError) as error:
            log.warning("%s cannot be saved (%s): the work goes on, and would begin anew if killed", self._path, error)
        finally:
            written.unlink(missing_ok=True)  # of a save that failed
        self._last = time.monotonic()

    def load(self) -> dict[str, Tensor] | None:
        """What was saved; None if nothing was, or if it is damaged: the work then begins anew, and says so."""
        try:
            return load_file(self._path)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            log.warning("%s is damaged (%s): beginning anew", self._path, error)
            return None

    def forget(self) -> None:
        """Delete what was saved."""
        self._path.unlink(missing_ok=True)
