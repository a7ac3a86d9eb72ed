"""Old results are removed after a night."""

from __future__ import annotations

from prefect import get_run_logger, task

from dynaq.config import Config
from dynaq.tracking.retention import prune
from tasks.retry import RETRY


@task(**RETRY)
def prune_results(config: Config, since: float) -> None:
    """Remove what no recent night has used, nor this one, which began at ``since``, and say how much that was."""
    for kind, removed in prune(config, since).items():
        get_run_logger().info(
            "retention: removed %d from %s (%.1f MB), used by none of the last %s nights",
            len(removed),
            kind,
            sum(removed) / 1e6,
            config.retention.nights,
        )
