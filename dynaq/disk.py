"""A disk without room, in one sentence that names the file system and says what to do."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dynaq.errors import ArtifactError, DynaqError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_IN_WORDS = re.compile(rf"(os error|code:) ({'|'.join(map(str, sorted(_NO_ROOM)))})\b")  # as safetensors says it


@contextmanager
def needing_room(place: Path) -> Iterator[None]:
    """Write at or below a place; raises ArtifactError where there is no room, whatever the writer raises then."""
    try:
        yield
    except DynaqError:
        raise
    except Exception as error:
        if not _is_for_want_of_room(error):
            raise
        raise ArtifactError(
            f"there is no room to write into {place}: {file_system(place)}; make room there, or set workdir to another"
            " file system, and run again: what is finished is reused"
        ) from None


def file_system(place: Path) -> str:
    """Where the file system of a place is mounted, and how much of it is free."""
    found = next(parent for parent in (place.resolve(), *place.resolve().parents) if parent.exists())
    usage = shutil.disk_usage(found)
    mount = next(parent for parent in (found, *found.parents) if parent.is_mount())
    return f"the file system mounted at {mount} has {usage.free / 1e6:,.1f} of {usage.total / 1e6:,.0f} MB free"


def _is_for_want_of_room(error: BaseException | None) -> bool:
    while error is not None:  # an archive that cannot be closed then raises over it
        if getattr(error, "errno", None) in _NO_ROOM or _IN_WORDS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
