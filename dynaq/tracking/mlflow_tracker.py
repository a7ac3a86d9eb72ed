"""MLflow: one parent run a night, a child run for each agent and seed.

The client is used directly, never the fluent API: no global state, and curves go in batches (a metric a call costs
thirty times as much).
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunInfo
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from pydantic import BaseModel, ConfigDict
from requests import RequestException
from sqlalchemy.exc import OperationalError

from dynaq.artifacts import flush
from dynaq.config import Config
from dynaq.config_file import NAMED_BY_USERS
from dynaq.disk import needing_room
from dynaq.errors import ConfigError, DynaqError, TransientError

log = logging.getLogger(__name__)

_KEY: Final = "dynaq.run"  # the tag that a run is found by
_WORKDIR: Final = "dynaq.workdir"  # and the one that says whose it is, where several working directories share a store
_BATCH = 1000  # metrics in one request: MLflow's own limit
_PARAMS = 100  # parameters, likewise

# Tried again by whoever delivers, and never below: a request that makes a run, and whose answer was lost, would make
# another one. A server that hangs is one that is gone.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # an address may hold a password


class RunRecord(BaseModel):
    """What MLflow is to show of a run; of one run there may be several, each adding to it.

    Attributes:
        key: what the run is known by, whoever logs it and however often: ``<night>``, or ``<night>/<name>`` for a
            child of the night. MLflow makes its own id, and has this one as a tag.
        name: of the run.
        started: milliseconds since 1970.
        status: FINISHED, FAILED, or KILLED where nobody could say so at its end; None while it goes on.
        params, tags: knobs and provenance.
        metrics: single figures.
        curves: values by step; None is left out.
        artifacts: place among the run's artifacts -> directory to upload.
        version: tags of a version of the registered model, which the run's checkpoint becomes; None: it does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    key: str
    name: str
    started: int
    status: Literal["FINISHED", "FAILED", "KILLED"] | None = None
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: dict[str, float] = {}
    curves: dict[str, list[float | None]] = {}
    artifacts: dict[str, Path] = {}
    version: dict[str, str] | None = None

    @property
    def night(self) -> str:
        """Key of the night that the run belongs to, or is."""
        return night_of(self.key)


def night_of(key: str) -> str:
    """Key of the night that the run with a key belongs to, or is."""
    return key.partition("/")[0]


class Tracker:
    """Writes runs into MLflow.

    Args:
        config: names the experiment and the store: tracking.uri, else MLFLOW_TRACKING_URI, else SQLite in workdir.

    Raises:
        ConfigError: there is no using the store or the experiment, or a record is refused.
        TransientError: the store did not answer; any method may raise both.
    """

    def __init__(self, config: Config) -> None:
        self._client, self._database = mlflow_client(config), _database(config)
        self._artifacts, self._workdir = artifacts_path(config), _workdir_tag(config.work_path)
        with mlflow_errors():
            self._experiment = self._experiment_id(config, local=_is_local(config))

    def _experiment_id(self, config: Config, local: bool) -> str:
        name = config.tracking.experiment
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage != "active":
                raise ConfigError(f"the MLflow experiment {name} was deleted: restore it, or name another one")
            return str(found.experiment_id)
        location = self._artifacts.as_uri() if local else None
        try:
            return str(self._client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another process was first
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def log(self, record: RunRecord) -> str:
        """Add a record to its run, which is made if it is not there; returns the run's id. Twice is as good as once."""
        with mlflow_errors():
            run_id = self._find(record.key) or self._create(record)
            self._log_params(run_id, record.params)
            self._log_points(run_id, record)
            for place, directory in record.artifacts.items():
                if directory.is_dir():
                    self._client.log_artifacts(run_id, str(directory), place)
                else:
                    log.warning("%s is gone: MLflow gets run %s without it", directory, record.key)
            if record.status:
                self._client.set_terminated(run_id, record.status)
        return run_id

    def run_id(self, key: str) -> str | None:
        """The run that has been logged under a key; None if there is none."""
        with mlflow_errors():
            return self._find(key)

    def own(self, condition: str) -> dict[str, RunInfo]:
        """The runs of this working directory under a condition in MLflow's words, by key."""
        condition, found, token = f"tags.`{_WORKDIR}` = '{self._workdir}' and {condition}", dict[str, RunInfo](), None
        with mlflow_errors():
            while True:
                page = self._client.search_runs([self._experiment], condition, page_token=token)
                found |= {run.data.tags[_KEY]: run.info for run in page}
                if not (token := page.token):
                    return found

    def remove(self, run_ids: Collection[str], for_good: bool) -> None:
        """Mark runs as deleted, for `mlflow gc`; or delete their rows for good, where their database is known."""
        with mlflow_errors():
            delete = self._client.delete_run
            if for_good and self._database and run_ids:
                from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # it takes seconds

                # As `mlflow gc` does, which would also take what others have deleted, and wish to restore.
                delete = SqlAlchemyStore(self._database, self._artifacts.as_uri())._hard_delete_run
            for run_id in run_ids:
                delete(run_id)

    def _find(self, key: str) -> str | None:
        found = self._client.search_runs([self._experiment], f"tags.`{_KEY}` = '{key}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _create(self, record: RunRecord) -> str:
        tags = {**record.tags, _KEY: record.key, _WORKDIR: self._workdir}
        if record.night != record.key and (parent := self._find(record.night)):
            tags[MLFLOW_PARENT_RUN_ID] = parent
        run = self._client.create_run(self._experiment, record.started, tags, record.name)
        return str(run.info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        entries = [Param(key, value) for key, value in params.items()]
        for start in range(0, len(entries), _PARAMS):
            self._client.log_batch(run_id, params=entries[start : start + _PARAMS])

    def _log_points(self, run_id: str, record: RunRecord) -> None:
        # Stamped with the start of the run: MLflow drops a point that is logged again with the same stamp.
        single: dict[str, list[float | None]] = {name: [value] for name, value in record.metrics.items()}
        points = [
            Metric(name, value, record.started, step)
            for name, values in (single | record.curves).items()
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


def artifacts_path(config: Config) -> Path:
    """Where files of runs lie, unless another server keeps them."""
    return config.work_path / "mlartifacts"


def _database(config: Config) -> str | None:
    """Address of the database of the store: the store itself, or what `make services` has put a server before."""
    for uri in (tracking_uri(config), os.environ.get("MLFLOW_BACKEND_STORE_URI", "")):
        if uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES:
            return uri
    return None


def _workdir_tag(workdir: Path) -> str:
    """What a working directory is known by, wherever it is mounted; made up once."""
    file = workdir / "mlflow-tag"
    with suppress(FileNotFoundError):
        return file.read_text()
    with needing_room(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(f".{os.getpid()}")
        aside.write_text(secrets.token_hex(8))
        flush(aside)
        aside.replace(file)
    return file.read_text()


def flat_params(config: Config) -> dict[str, str]:
    """Every knob under its dotted key but the address of MLflow; paths keep their ``${NAME}``.

    A mapping whose keys are names of the user's is one parameter: MLflow takes few characters in the name of one.
    """

    def walk(prefix: str, node: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict) and node and prefix.rpartition(".")[2] not in NAMED_BY_USERS:
            for key, value in node.items():
                yield from walk(f"{prefix}.{key}" if prefix else key, value)
        else:
            yield prefix, node

    return {key: str(value) for key, value in walk("", config.model_dump(exclude={"tracking": {"uri"}}))}


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
        raise ConfigError(f"{_STORE} refused ({error.error_code}): where it refuses all, check its address") from None
    except (OperationalError, RequestException) as error:
        raise TransientError(f"{_STORE} did not answer ({type(error).__name__})") from None
    except Exception as error:
        # A store it cannot parse, a database driver that is missing: whatever its libraries raise, with the address.
        raise ConfigError(
            f"MLflow cannot use the store that tracking.uri or MLFLOW_TRACKING_URI names ({type(error).__name__})"
        ) from None
