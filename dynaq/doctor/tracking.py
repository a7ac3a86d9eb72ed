"""MLflow: the store answers, and its experiment may be written to."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from dynaq.config import Config
from dynaq.doctor.finding import Finding
from dynaq.tracking.mlflow_tracker import mlflow_client, mlflow_errors, tracking_uri


def check_mlflow(config: Config) -> Finding:
    """Whether the store that runs are written to answers; a SQLite store that is not there is not made."""
    uri, name = tracking_uri(config), config.tracking.experiment
    with mlflow_errors():
        file = make_url(uri).database if uri.startswith("sqlite:") else None
        if file and not Path(file).exists():
            return Finding("ok", "SQLite, made by the first night")
        experiment = mlflow_client(config).get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage != "active":
        return Finding("FAIL", f"the experiment {name} was deleted", "restore it, or change tracking.experiment")
    where = "SQLite" if file else "the server of tracking.uri or MLFLOW_TRACKING_URI"
    return Finding("ok", f"{where} answers, experiment {name}" + ("" if experiment else " is made by the first night"))
