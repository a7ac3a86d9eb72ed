"""What MLflow is to show, in files until MLflow has it: a server that is gone costs no night and no figure.

A night writes every record here first; whatever waits is delivered in the order it was written, when a night begins,
before a champion is decided, and when it ends. Delivery moves no alias: a version that is registered late cannot
become the champion by it.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from dynaq.artifacts import flush
from dynaq.config import Config
from dynaq.disk import needing_room
from dynaq.errors import ArtifactError, DynaqError, TransientError
from dynaq.tracking.mlflow_tracker import RunRecord, Tracker
from dynaq.tracking.registry import Registry

log = logging.getLogger(__name__)

_number = itertools.count()  # a night writes from one process, and once more where it is tried again


def put(config: Config, record: RunRecord) -> None:
    """Write a record to be delivered; it is there whole or not at all.

    Raises:
        ArtifactError: it cannot be written.
    """
    names = (f"{record.night}.{number:06d}.json" for number in _number)
    target = next(path for name in names if not (path := _directory(config) / name).exists())
    aside = target.with_suffix(".new")
    try:
        with needing_room(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(record.model_dump_json(), encoding="utf-8")
            flush(aside)
            aside.replace(target)
    except OSError as error:
        raise ArtifactError(f"cannot write into {target.parent}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)  # of a write that failed


def waiting(config: Config) -> list[Path]:
    """The records that MLflow does not have yet, oldest first."""
    return sorted(_directory(config).glob("*.json"))


def nights_waiting(config: Config) -> set[str]:
    """Keys of the nights that have such records."""
    return {_night(path) for path in waiting(config)}


def to_upload(config: Config) -> set[Path]:
    """Directories that such records name, and that must be there when MLflow takes them."""
    named = set[Path]()
    for path in waiting(config):
        with suppress(ArtifactError):  # delivery tells of it
            named |= set(_read(path).artifacts.values())
    return named


def deliver(config: Config) -> None:
    """Log in MLflow what waits. What broke off half-way is repeated, and leaves one run with one curve each.

    A record that MLflow refuses waits on, with what follows of its night, and keeps no other night waiting.

    Raises:
        ConfigError: there is no using the store.
        TransientError: it did not answer; what it has not taken waits.
    """
    with _alone(_directory(config)):
        tracker, registry = Tracker(config), Registry(config)
        refused: set[str] = set()
        for path in waiting(config):
            if _night(path) in refused:
                continue
            try:
                record = _read(path)
                run_id = tracker.log(record)
                if record.version is not None:
                    registry.register(run_id, record.version)
            except TransientError:
                raise
            except DynaqError as error:
                log.warning("%s cannot be delivered: %s; mend that, or delete the file", path, error)
                refused.add(_night(path))
            else:
                path.unlink()


def close_killed(config: Config, tonight: str) -> None:
    """Write of the nights that MLflow shows as running that they were killed, unless records of theirs still wait.

    Args:
        config: of a working directory in which no other night runs.
        tonight: key of the night that does.

    Raises:
        ArtifactError, ConfigError, TransientError: as ``put`` and ``deliver`` do.
    """
    alive = nights_waiting(config) | {tonight}
    for key, run in Tracker(config).own("attributes.status = 'RUNNING'").items():
        record = RunRecord(key=key, name=run.run_name, started=run.start_time, status="KILLED")
        if record.night not in alive:
            put(config, record)


def _night(path: Path) -> str:
    return path.name.partition(".")[0]


def _read(path: Path) -> RunRecord:
    try:
        return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        raise ArtifactError("it is damaged, or of another version of dynaq") from None


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Two nights that deliver at once would make each run twice."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _directory(config: Config) -> Path:
    return config.work_path / "spool"
