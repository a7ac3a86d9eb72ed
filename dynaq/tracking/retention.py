"""Old results go: what none of the last nights has used, and no champion needs.

Nights share results under the keys of their inputs, so a result belongs to no night. But whoever uses one gives its
directory the time of the use (``artifacts.mark_used``), and a night ends with a report. So what was last used before
the newest report that is not kept, none of the nights that are kept has used. Only what can be made again is looked at:
labels, experiences and spending are in MongoDB, and audits of labels lie elsewhere. Nights in MLflow go by their start.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from mlflow.entities import RunInfo
from mlflow.utils.file_utils import local_file_uri_to_path

from dynaq.artifacts import DAY_S
from dynaq.config import Config
from dynaq.errors import ArtifactError
from dynaq.tracking.checkpoint import read_manifest
from dynaq.tracking.mlflow_tracker import Tracker, artifacts_path, night_of
from dynaq.tracking.registry import Registered, Registry
from dynaq.tracking.spool import nights_waiting, to_upload

_REMOVING = ".removing@"
_RESULTS = {
    "snapshots": "*",
    "splits": "*",
    "checkpoints": "*",
    "champions": "*",
    "panels": "*",
    "online": "*/*",
    "titles": "*",
    "graded": "*",
    "fairness": "*",
    "damaged": "*",
    "reports": "*",  # last: a sweep that broke off has the same limit the next time
}


def prune(config: Config, since: float) -> dict[str, list[int]]:
    """Remove what was last used before the nights that ``retention.nights`` keeps; returns bytes of each, by kind.

    What has been used within a day stays: another night may be under way.

    Args:
        config: where, and how much is kept.
        since: start of tonight's run, in seconds since 1970: what it has used stays, however long it took.

    Raises:
        ConfigError, TransientError: MLflow does not say who is champion or does not remove runs; nothing else was
            removed.
        OSError: something cannot be removed; what comes after it was not either.
    """
    nights = config.retention.nights
    reports = sorted(path.stat().st_mtime for path in (config.work_path / "reports").glob("[!.]*"))
    days = {moment // DAY_S: moment for moment in reports}  # of each (UTC) the last: an afternoon of runs is one night
    if nights is None or len(days) <= nights:
        return {}
    limit = min(list(days.values())[-nights - 1], since, time.time() - DAY_S)
    registry, spooled, removed = Registry(config), to_upload(config), defaultdict[str, list[int]](list)
    champions, aliased = registry.champions(), registry.aliased()
    if runs := _remove_runs(config, limit, {each.run_id for each in champions + aliased}):
        removed["MLflow"] = runs
    holders = champions[:2] + aliased  # snapshots are large: one champion back
    for kind, pattern in _RESULTS.items():
        for path in (config.work_path / kind).glob(pattern):
            with suppress(FileNotFoundError):  # another night was first
                if path.name.startswith(_REMOVING):
                    removed[kind].append(_delete(path))
                elif path.stat().st_mtime <= limit and path not in spooled and not _is_needed(kind, path, holders):
                    # It loses its name first: what a kill leaves half deleted is never taken for a result.
                    aside = path.rename(path.with_name(_REMOVING + path.name))
                    if aside.stat().st_mtime <= limit:
                        removed[kind].append(_delete(aside))
                    else:  # somebody has begun to use it since it was looked at
                        aside.rename(path)
    return dict(removed)


def _is_needed(kind: str, path: Path, holders: Collection[Registered]) -> bool:
    """Whether this is of one who holds a title: checkpoint, its copy from MLflow, the snapshot it was trained on."""
    match kind:
        case "snapshots":
            return any(each.tags.get("snapshot", "").startswith(path.name) for each in holders)
        case "champions":
            return any(path.name.startswith(f"{each.version}-") for each in holders)
        case "checkpoints":
            with suppress(ArtifactError):
                return read_manifest(path).weights in {each.tags.get("weights") for each in holders}
    return False


def _remove_runs(config: Config, limit: float, needed: set[str]) -> list[int]:
    """Remove from MLflow what nights before a limit have logged; returns the bytes of files of each run.

    A run that is needed stays, with the night it belongs to; so does a night of which MLflow has not heard all. Runs
    with files outside this working directory are only marked as deleted: whoever keeps those removes both.
    """
    tracker, waiting = Tracker(config), nights_waiting(config)
    old = tracker.own(f"attributes.start_time <= {limit * 1000:.0f}")
    nights = {night_of(key) for key, run in old.items() if run.run_id in needed}
    gone = [
        run
        for key, run in old.items()
        if run.run_id not in needed and key not in nights and night_of(key) not in waiting
    ]
    here = {run.run_id: place for run in gone if (place := _files(config, run))}
    # First the files: a run whose rows are gone is never found again.
    removed = [_delete(place) if (place := here.get(run.run_id)) and place.exists() else 0 for run in gone]
    tracker.remove(list(here), for_good=True)
    tracker.remove([run.run_id for run in gone if run.run_id not in here], for_good=False)
    return removed


def _files(config: Config, run: RunInfo) -> Path | None:
    """The directory of a run's files, if it is one of this working directory."""
    place = Path(local_file_uri_to_path(run.artifact_uri)).resolve().parent
    return place if place.name == run.run_id and place.is_relative_to(artifacts_path(config)) else None


def _delete(path: Path) -> int:
    """Delete a file or directory; returns its bytes."""
    size = sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return size
