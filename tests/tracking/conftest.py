"""One MLflow store, and one real server over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.children import free_port
from flows.servers import mlflow_child


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the tests of the registry and the spool: creating its tables takes MLflow seconds."""
    directory = tmp_path_factory.mktemp("registry")
    MlflowClient(f"sqlite:///{directory / 'mlflow.db'}").search_experiments()
    return directory


@pytest.fixture(scope="session")
def server(home: Path) -> Iterator[str]:
    """A real MLflow server over the same store."""
    store = f"sqlite:///{home / 'mlflow.db'}"
    with mlflow_child(free_port(), store, home / "served", home / "mlflow.log") as child:
        yield child.address
