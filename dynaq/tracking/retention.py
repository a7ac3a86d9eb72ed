"""Old results go: what none of the last nights has used, and no champion needs.

Nights share results under the keys of their inputs, so a result belongs to no night. But whoever uses one gives its
directory the time of the use (``artifacts.mark_used``), and a night ends with a report. So what was last used before
the newest report that is not kept, none of the nights that are kept has used. Only what can be made again is looked at:
labels, experiences and spending are in MongoDB, and audits of labels and MLflow's files lie elsewhere.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from dynaq.artifacts import DAY_S
from dynaq.config import Config
from dynaq.errors import ArtifactError
from dynaq.tracking.checkpoint import read_manifest
from dynaq.tracking.registry import Registered, Registry

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
        ConfigError, TransientError: MLflow does not say who is champion; nothing was removed.
        OSError: something cannot be removed; what comes after it was not either.
    """
    nights = config.retention.nights
    reports = sorted((path.stat().st_mtime for path in (config.work_path / "reports").glob("[!.]*")), reverse=True)
    if nights is None or len(reports) <= nights:
        return {}
    limit = min(reports[nights], since, time.time() - DAY_S)
    champions, removed = Registry(config).holders(), defaultdict[str, list[int]](list)
    for kind, pattern in _RESULTS.items():
        for path in (config.work_path / kind).glob(pattern):
            with suppress(FileNotFoundError):  # another night was first
                if path.name.startswith(_REMOVING):
                    removed[kind].append(_delete(path))
                elif path.stat().st_mtime <= limit and not _is_needed(kind, path, champions):
                    # It loses its name first: what a kill leaves half deleted is never taken for a result.
                    aside = path.rename(path.with_name(_REMOVING + path.name))
                    if aside.stat().st_mtime <= limit:
                        removed[kind].append(_delete(aside))
                    else:  # somebody has begun to use it since it was looked at
                        aside.rename(path)
    return dict(removed)


def _is_needed(kind: str, path: Path, champions: Collection[Registered]) -> bool:
    """Whether this is champion or challenger: the checkpoint, its copy from MLflow, the snapshot it was trained on."""
    match kind:
        case "snapshots":
            return any(each.tags.get("snapshot", "").startswith(path.name) for each in champions)
        case "champions":
            return any(path.name.startswith(f"{each.version}-") for each in champions)
        case "checkpoints":
            with suppress(ArtifactError):
                return read_manifest(path).weights in {each.tags.get("weights") for each in champions}
    return False


def _delete(path: Path) -> int:
    """Delete a file or directory; returns its bytes."""
    size = sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return size
