"""What several flows begin with: the day and the MLflow run of a night, and the snapshot that it learns from."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from prefect import get_run_logger

from dynaq.artifacts import code_version, made_before, mark_used
from dynaq.config import Config
from dynaq.data.manifest import check_matches
from dynaq.data.snapshot import latest_snapshot, open_snapshot
from dynaq.errors import DynaqError, TransientError
from dynaq.llm.endpoint import resolve_endpoint
from dynaq.llm.rule_sim.process import rule_sim_server
from dynaq.tracking.mlflow_tracker import RunRecord, flat_params
from dynaq.tracking.spool import close_killed, put
from tasks.report import deliver_spool
from tasks.retention import prune_results


@contextmanager
def day_of_the_night(config: Config) -> Iterator[str]:
    """The day, UTC, on which a night first began, however often it is tried again, until it has ended well.

    Budget, audit and weights are of a day: killed or failed before midnight and started again after it, a night goes on
    with what it had. What began longer than ``night.longest_h`` ago is over, and another night begins.
    """
    began = config.work_path / "night-began"  # its time is all that it says: nothing to be half-written
    age_s = time.time() - began.stat().st_mtime if began.exists() else math.inf
    if not 0 <= age_s < config.night.longest_h * 3600:  # below 0 the clock went back
        began.touch()
    yield datetime.fromtimestamp(began.stat().st_mtime, UTC).date().isoformat()
    began.unlink(missing_ok=True)


@dataclass(frozen=True)
class MLflowNight:
    """The parent run of a night, and how long each stage has taken."""

    run: RunRecord
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = time.perf_counter() - start


@contextmanager
def mlflow_night(config: Config, name: str) -> Iterator[MLflowNight]:
    """Open the parent run, and close it as finished or failed, now or when MLflow answers again.

    The caller holds the lock of the working directory (alone.py): whose run is still open was killed.
    """
    now = datetime.now(UTC)
    night = MLflowNight(
        RunRecord(
            key=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
            name=name,
            started=round(now.timestamp() * 1000),
            params=flat_params(config),
            tags={"code": code_version()},
        )
    )
    put(config, night.run)
    status = "FAILED"  # also after Ctrl-C and SIGTERM, which end a night as well
    try:
        deliver_spool(config)
        with suppress(TransientError):  # the next night may find it there
            close_killed(config, night.run.key)
        yield night
        status = "FINISHED"
    finally:
        try:
            seconds = {f"seconds_{stage}": value for stage, value in night.seconds.items()}
            put(config, night.run.model_copy(update={"status": status, "metrics": seconds}))
            deliver_spool(config)
        except DynaqError as error:  # the night has its report, or an error of its own
            logging.getLogger("dynaq").warning("the run in MLflow stays open: %s", error)


def find_snapshot(config: Config, given: Path | None) -> Path:
    """The snapshot to work on: the one given, else the latest.

    Raises:
        ArtifactError: there is none, it is damaged, or it was extracted with another configuration.
    """
    path = given or latest_snapshot(config.work_path / "snapshots")
    check_matches(open_snapshot(path, verify=True).manifest, config.mongo, config.extract)
    mark_used(path)
    return path


def say_reused(stage: str, since: float, made: Mapping[str, Collection[Path]]) -> None:
    """Say in one line how much of what a stage gives was there before it began, in seconds since 1970."""
    reused = {what: sum(made_before(path, since) for path in paths) for what, paths in made.items() if paths}
    if any(reused.values()):
        counts = ", ".join(f"{count} of {len(made[what])} {what}" for what, count in reused.items())
        get_run_logger().info("%s: %s reused from earlier runs", stage, counts)


def remove_old(config: Config, since: float) -> None:
    """Remove what no recent night has used, nor this one since its beginning; a fault there is not worth a night."""
    pruned = prune_results(config, since, return_state=True)
    if not pruned.is_completed():
        get_run_logger().warning("not everything old was removed: %s", pruned.message)


def stand_in_server() -> AbstractContextManager[str | None]:
    """The stand-in rule-sim-v1 where no LLM is configured; gives its address, or None where there is an LLM."""
    return rule_sim_server() if resolve_endpoint() is None else nullcontext()
