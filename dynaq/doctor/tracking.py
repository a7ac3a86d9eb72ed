"""MLflow: the store answers, and its experiment takes a write."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from dynaq.config import Config
from dynaq.doctor.finding import Finding
from dynaq.tracking.mlflow_tracker import mlflow_client, mlflow_errors, tracking_uri

_TAG = "dynaq.doctor"


def check_mlflow(config: Config) -> Finding:
    """Whether the experiment takes a tag, which is taken back; a store or experiment that is not there is not made."""
    uri, name = tracking_uri(config), config.tracking.experiment
    file = make_url(uri).database if uri.startswith("sqlite:") else None
    where = "SQLite" if file else "the server of tracking.uri or MLFLOW_TRACKING_URI"
    with mlflow_errors():
        if file and not Path(file).exists():
            return Finding("ok", "SQLite, made by the first night")
        client = mlflow_client(config)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return Finding("ok", f"{where} answers, experiment {name} is made by the first night")
        if experiment.lifecycle_stage != "active":
            return Finding("FAIL", f"the experiment {name} was deleted", "restore it, or change tracking.experiment")
        client.set_experiment_tag(experiment.experiment_id, _TAG, "written to see that it can be")
        client.delete_experiment_tag(experiment.experiment_id, _TAG)
    return Finding("ok", f"{where} answers, experiment {name} takes a write")
