"""MLflow: one parent run a night, a child run for each agent and seed.

The client is used directly, never the fluent API: no global state, and curves go in batches (a metric a call costs
thirty times as much).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from requests import RequestException
from sqlalchemy.exc import OperationalError

from dynaq.config import Config
from dynaq.errors import ConfigError, DynaqError, TransientError

_BATCH = 1000  # metrics in one request: MLflow's own limit
_PARAMS = 100  # parameters, likewise

# MLflow's own default waits four minutes for a server that refuses connections; tasks are retried above it.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # an address may hold a password


class Tracker:
    """Writes a night into MLflow.

    Args:
        config: names the experiment and the store: tracking.uri, else MLFLOW_TRACKING_URI, else SQLite in workdir.
    """

    def __init__(self, config: Config) -> None:
        self._client = mlflow_client(config)
        with mlflow_errors():
            self._experiment = self._experiment_id(config, local=_is_local(config))

    def _experiment_id(self, config: Config, local: bool) -> str:
        name = config.tracking.experiment
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage != "active":
                raise ConfigError(f"the MLflow experiment {name} was deleted: restore it, or name another one")
            return str(found.experiment_id)
        location = (config.work_path / "mlartifacts").as_uri() if local else None
        try:
            return str(self._client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another process was first
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def start_night(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Open the parent run; returns its id."""
        with mlflow_errors():
            run = self._client.create_run(self._experiment, run_name=name, tags=dict(tags))
            self._log_params(run.info.run_id, params)
        return str(run.info.run_id)

    def log_child(
        self,
        parent: str,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        curves: Mapping[str, list[float | None]],
        directories: Mapping[str, Path],
    ) -> str:
        """Log a whole (agent, seed) run; returns its id. Logged again, the same run is written once more.

        Args:
            parent: the night it belongs to.
            name: of the run.
            params: knobs.
            tags: provenance.
            metrics: single figures.
            curves: values by step; None is left out.
            directories: artifact path -> directory to upload.
        """
        with mlflow_errors():
            run_id = self._child(parent, name, tags)
            self._log_params(run_id, params)
            self._log_curves(run_id, {**{key: [value] for key, value in metrics.items()}, **curves})
            for place, directory in directories.items():
                self._client.log_artifacts(run_id, str(directory), place)
            self._client.set_terminated(run_id)
        return run_id

    def _child(self, parent: str, name: str, tags: Mapping[str, str]) -> str:
        """The child of this name, which an attempt that failed half-way may have made already."""
        same = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}' and attributes.run_name = '{name}'"
        for run in self._client.search_runs([self._experiment], same, max_results=1):
            return str(run.info.run_id)
        run = self._client.create_run(self._experiment, run_name=name, tags={MLFLOW_PARENT_RUN_ID: parent, **tags})
        return str(run.info.run_id)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Add single figures to a run."""
        with mlflow_errors():
            self._log_curves(run_id, {key: [value] for key, value in metrics.items()})

    def log_report(self, run_id: str, directory: Path) -> None:
        """Add the files of a report to a run."""
        with mlflow_errors():
            self._client.log_artifacts(run_id, str(directory), "report")

    def end_night(self, run_id: str, succeeded: bool) -> None:
        """Close the parent run as finished or failed."""
        with mlflow_errors():
            self._client.set_terminated(run_id, status="FINISHED" if succeeded else "FAILED")

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        entries = [Param(key, str(value)) for key, value in params.items()]
        for start in range(0, len(entries), _PARAMS):
            self._client.log_batch(run_id, params=entries[start : start + _PARAMS])

    def _log_curves(self, run_id: str, curves: Mapping[str, list[float | None]]) -> None:
        # Stamped with the start of the run: MLflow drops a point that is logged again with the same stamp.
        now = self._client.get_run(run_id).info.start_time
        points = [
            Metric(name, value, now, step)
            for name, values in curves.items()
            for step, value in enumerate(values)
            if value is not None
        ]
        for start in range(0, len(points), _BATCH):
            self._client.log_batch(run_id, metrics=points[start : start + _BATCH])


def mlflow_client(config: Config) -> MlflowClient:
    """A client of the store, whose working directory is made where it is a file of ours.

    Raises:
        ConfigError: there is no using the store.
        TransientError: it did not answer.
    """
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # its warnings name the server
    if _is_local(config):
        config.work_path.mkdir(parents=True, exist_ok=True)
    with mlflow_errors():
        return MlflowClient(tracking_uri=tracking_uri(config))


def _is_local(config: Config) -> bool:
    return tracking_uri(config).startswith("sqlite:")


def tracking_uri(config: Config) -> str:
    """Address of the MLflow store; it may hold credentials, so it is never printed."""
    return config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{config.work_path / 'mlflow.db'}"


def flat_params(config: Config) -> dict[str, Any]:
    """Every knob under its dotted key but the address of MLflow; paths keep their ``${NAME}``."""

    def walk(prefix: str, node: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                yield from walk(f"{prefix}.{key}" if prefix else key, value)
        else:
            yield prefix, node

    return dict(walk("", config.model_dump(exclude={"tracking": {"uri"}})))


_STORE = "the MLflow that tracking.uri or MLFLOW_TRACKING_URI names"
_PASSING = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Errors of MLflow as ours; its messages may hold the address, so only the kind is kept."""
    try:
        yield
    except DynaqError:
        raise
    except MlflowException as error:
        if error.error_code in _PASSING:
            raise TransientError(f"{_STORE} did not answer ({error.error_code})") from None
        raise ConfigError(f"MLflow refused: {error.error_code}") from None
    except (OperationalError, RequestException) as error:
        raise TransientError(f"{_STORE} did not answer ({type(error).__name__})") from None
    except Exception as error:
        # A store it cannot parse, a database driver that is missing: whatever its libraries raise, with the address.
        raise ConfigError(
            f"MLflow cannot use the store that tracking.uri or MLFLOW_TRACKING_URI names ({type(error).__name__})"
        ) from None
