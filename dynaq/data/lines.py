"""The lines of a JSONL file by number, without reading it into memory: a million texts are gigabytes of objects."""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from dynaq.errors import ArtifactError

_CHUNK = 2**24  # bytes looked at for line ends at a time


class JsonLines(Sequence[dict[str, str]]):
    """A file of JSON objects, one a line, each read when it is asked for.

    Attributes:
        path: of the file, which must not change.

    Raises:
        ArtifactError: it cannot be read, or, later, a line is no JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        except OSError as error:
            raise ArtifactError(f"cannot read {path}: {error.strerror}: run the extract flow") from None
        seen = np.frombuffer(self._bytes, np.uint8)
        ends = [np.flatnonzero(seen[i : i + _CHUNK] == ord("\n")) + i + 1 for i in range(0, size, _CHUNK)]
        self._starts = np.concatenate([[0], *ends])

    def __len__(self) -> int:
        """Number of lines."""
        return len(self._starts) - 1

    @overload
    def __getitem__(self, row: int) -> dict[str, str]: ...

    @overload
    def __getitem__(self, row: slice) -> list[dict[str, str]]: ...

    def __getitem__(self, row: int | slice) -> Any:
        """The object on a line, or those of a slice."""
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        try:
            return json.loads(self._bytes[self._starts[row] : self._starts[row + 1]])
        except ValueError:  # of JSON or of UTF-8
            raise ArtifactError(f"{self.path} is damaged at line {row + 1}: run the extract flow again") from None
