"""Who is asking what: of the processes of one ``workdir`` only one pays for an answer, and the others wait for it.

A claim is a POSIX record lock: the kernel takes it back when its process ends, however it ends (over NFS, when the
server learns of it). It is for processes with one thread that labels: threads do not exclude each other, and the first
that is through gives back what all of them hold.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path

from dynaq.data.labels import LabelKey

log = logging.getLogger(__name__)


class Claims:
    """A file whose bytes stand for questions; nothing is ever written to it."""

    def __init__(self, path: Path) -> None:
        """It is made with the first claim."""
        self._path, self._works = path, True

    @contextmanager
    def hold(self, keys: Sequence[LabelKey]) -> Iterator[list[LabelKey]]:
        """Claim questions while the block asks them; yields those that no other process is asking.

        All of them where the file system has no locks, which is said: two processes may then pay for one answer.
        """
        with ExitStack() as held:  # closing the file gives back what is claimed
            claimed = list(keys)
            if self._works:
                try:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    file = held.enter_context(self._open())
                    claimed = [key for key in keys if _claim(file, key)]
                except OSError as error:
                    self._give_up(error)
            yield claimed

    def wait(self, keys: Iterable[LabelKey]) -> None:
        """Until no other process is asking any of them. Holds nothing meanwhile, so that no two wait for each other."""
        try:
            with self._open() as file:
                for key in keys:
                    fcntl.lockf(file, fcntl.LOCK_EX, 1, _byte(key))
                    fcntl.lockf(file, fcntl.LOCK_UN, 1, _byte(key))
        except OSError as error:
            self._give_up(error)

    def _open(self) -> FileIO:
        return FileIO(self._path, "w")

    def _give_up(self, error: OSError) -> None:
        log.warning("%s cannot be locked (%s): processes may pay twice for an answer", self._path, error.strerror)
        self._works = False


def _claim(file: FileIO, key: LabelKey) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(key))
    except (BlockingIOError, PermissionError):  # what POSIX allows for "another has it"
        return False
    return True


def _byte(key: LabelKey) -> int:
    return int(key.digest[:15], base=16)  # the kernel's offsets have 63 bits
