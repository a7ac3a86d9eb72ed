"""The champion in MLflow's model registry: which checkpoint is the one to serve, which challenges it, which was before.

An experiment has one registered model, a challenger one version of it. The aliases ``challenger`` and ``champion``
each point at one version; what became of a version is written in its tags. An alias moves last, in one step: a task
that broke off before and is tried again repeats what it did, and nothing is decided by halves.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.uri import append_to_uri_path

from dynaq.config import Config
from dynaq.errors import ArtifactError, TransientError
from dynaq.tracking.checkpoint import CheckpointManifest, read_manifest
from dynaq.tracking.mlflow_tracker import mlflow_client, mlflow_errors

CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"

_PLACE = "checkpoint"  # where a child run keeps its checkpoint among its artifacts
_FILES = ("weights.safetensors", "manifest.json", "curves.json")

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # of three files


@dataclass(frozen=True)
class Registered:
    """A version of the registered model; in words, ``version 3 of dynaq``.

    Attributes:
        name: of the registered model.
        version: its number, from 1.
        run_id: the run that logged its checkpoint.
        tags: what ``register`` was given; ``agent``, ``gamma``, ``seed``, ``labels``, ``snapshot`` and ``weights``
            (sha256) of the checkpoint; what became of it: ``verdict``, ``previous_champion``, ``rolled_back``.
    """

    name: str
    version: int
    run_id: str
    tags: dict[str, str]

    def __str__(self) -> str:
        """Name and number."""
        return f"version {self.version} of {self.name}"

    @property
    def weights(self) -> str:
        """The sha256 of the weights; raises ArtifactError for a version that was registered by other means."""
        if not re.fullmatch("[0-9a-f]{64}", self.tags.get("weights", "")):  # it becomes part of a path
            raise ArtifactError(f"{self} was not registered by dynaq: point the alias at a version that was")
        return self.tags["weights"]


class Registry:
    """The registered model of an experiment, in the store that the Tracker writes to.

    Args:
        config: names both.

    Raises:
        ConfigError: there is no using the store.
        TransientError: the store did not answer; any method may raise this too.
    """

    def __init__(self, config: Config) -> None:
        self._name = config.tracking.experiment
        self._client = mlflow_client(config)

    def champion(self) -> Registered | None:
        """The present champion; None before the first."""
        version = self._aliases().get(CHAMPION)
        return self._version(version) if version else None

    def aliased(self) -> list[Registered]:
        """The versions with an alias: champion, challenger, and whatever somebody has given another one."""
        return [found for each in sorted(set(self._aliases().values())) if (found := self._version(each))]

    def champions(self) -> list[Registered]:
        """The present champion and those that ``roll_back`` goes back to, newest first, up to one that was deleted."""
        found, each = dict[int, Registered](), self.champion()
        while each is not None and each.version not in found:  # tags can be edited into a circle
            found[each.version] = each
            before = each.tags.get("previous_champion")
            each = self._version(before) if before else None
        return list(found.values())

    def _aliases(self) -> dict[str, str]:
        """Alias -> version; none before the first version."""
        with mlflow_errors():
            try:
                aliases = self._client.get_registered_model(self._name).aliases
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return {}
        return {alias: str(version) for alias, version in aliases.items()}

    def _version(self, version: str) -> Registered | None:
        """A version by its number; None if it was deleted."""
        with mlflow_errors():
            try:
                return self._registered(self._client.get_model_version(self._name, version))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None

    def fetch(self, registered: Registered, directory: Path) -> Path:
        """Download a checkpoint into a directory that is there and empty; returns the directory.

        Raises:
            ArtifactError: a file is missing in MLflow, or is not what was registered; the directory is then no
                checkpoint.
        """
        weights = registered.weights
        try:
            if self._download(registered.run_id, directory).weights != weights:
                raise ArtifactError(f"run {registered.run_id} has other weights in MLflow than were registered")
        except ArtifactError as error:
            raise ArtifactError(
                f"{registered} cannot be used: {error}; restore it, roll back to the champion before it,"
                f" or delete the alias {CHAMPION} in MLflow to begin anew"
            ) from None
        return directory

    def register(self, run_id: str, tags: Mapping[str, str]) -> Registered:
        """Make the checkpoint that a run has logged a version; the same run is the same version each time.

        It is neither challenger nor champion yet: ``promote`` and ``decline`` say what becomes of it.

        Args:
            run_id: the child run.
            tags: for a new version, beside those that come from the checkpoint's manifest.

        Raises:
            ArtifactError: the run has logged no checkpoint, or a damaged one.
        """
        with mlflow_errors():
            # Filtered by the run alone: a name would have to be quoted, and a run has few versions.
            same = [v for v in self._client.search_model_versions(f"run_id = '{run_id}'") if v.name == self._name]
            if same:
                return self._registered(same[0])
            with TemporaryDirectory() as directory:
                manifest = self._download(run_id, Path(directory))
            return self._registered(self._create_version(run_id, {**tags, **_described(manifest)}))

    def promote(self, registered: Registered, reason: str) -> None:
        """Make a version the champion, and write down why, and which was before; nothing if it is the champion."""
        self._point(CHALLENGER, registered.version)
        former = self.champion()
        if former is not None:
            if former.version == registered.version:
                return
            self._tag(registered, "previous_champion", str(former.version))
        self._tag(registered, "verdict", f"{reason} ({_now()})")
        self._point(CHAMPION, registered.version)

    def decline(self, registered: Registered, reason: str) -> None:
        """Make a version the challenger, and write down why it does not become the champion."""
        self._point(CHALLENGER, registered.version)
        self._tag(registered, "verdict", f"{reason} ({_now()})")

    def roll_back(self) -> Registered:
        """Make the version before the present champion the champion again; returns it. Twice goes two steps back.

        Raises:
            ArtifactError: there is no champion, none before it, or the one before was deleted.
        """
        left = self.champion()
        if left is None:
            raise ArtifactError(f"{self._name} has no champion in MLflow yet: there is nothing to roll back")
        before = left.tags.get("previous_champion")
        if before is None:
            raise ArtifactError(f"{left} is the first champion: there is none before it to roll back to")
        again = self._version(before)
        if again is None:
            raise ArtifactError(
                f"version {before} of {self._name}, the champion before version {left.version}, was deleted:"
                f" set the alias {CHAMPION} to another version in MLflow"
            )
        self._tag(left, "rolled_back", _now())
        self._point(CHAMPION, again.version)
        return again

    def rolled_back(self, weights: str) -> Registered | None:
        """A version with these weights that was champion until ``roll_back`` took the title from it, if any."""
        with mlflow_errors():
            same = [
                v for v in self._client.search_model_versions(f"tags.weights = '{weights}'") if v.name == self._name
            ]
        return next((self._registered(each) for each in same if "rolled_back" in each.tags), None)

    def _create_version(self, run_id: str, tags: dict[str, str]) -> ModelVersion:
        try:
            self._client.create_registered_model(self._name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # A server refuses a source outside the artifacts of the run; inside, any directory is one.
        source = append_to_uri_path(self._client.get_run(run_id).info.artifact_uri, _PLACE)
        # Nothing is copied, so there is nothing to await.
        return self._client.create_model_version(self._name, source, run_id, tags, await_creation_for=0)

    def _download(self, run_id: str, directory: Path) -> CheckpointManifest:
        """Download the checkpoint of a run, and look at every file of it; raises ArtifactError for a faulty one."""
        with mlflow_errors():
            there = {Path(entry.path).name for entry in self._client.list_artifacts(run_id, _PLACE)}
            if missing := [name for name in _FILES if name not in there]:
                raise ArtifactError(f"run {run_id} has no whole checkpoint in MLflow, it lacks {', '.join(missing)}")
            try:
                downloaded = Path(self._client.download_artifacts(run_id, _PLACE, str(directory)))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                # It does, it was listed: so MLflow calls a connection that was dropped.
                raise TransientError(f"the checkpoint of run {run_id} could not be downloaded from MLflow") from None
        for name in _FILES:
            (downloaded / name).replace(directory / name)
        shutil.rmtree(downloaded)
        if damaged := _damaged(directory):
            raise ArtifactError(f"{damaged} of run {run_id} is damaged in MLflow, or of another format")
        return read_manifest(directory)

    def _point(self, alias: str, version: int) -> None:
        with mlflow_errors():
            self._client.set_registered_model_alias(self._name, alias, str(version))

    def _tag(self, registered: Registered, key: str, value: str) -> None:
        with mlflow_errors():
            self._client.set_model_version_tag(self._name, str(registered.version), key, value)

    def _registered(self, version: ModelVersion) -> Registered:
        return Registered(self._name, int(version.version), str(version.run_id), dict(version.tags))


def _damaged(directory: Path) -> str | None:
    """The first file of a checkpoint that cannot be what was saved; None if all are whole."""
    try:
        manifest = read_manifest(directory)
    except ArtifactError:
        return "manifest.json"
    if hashlib.sha256((directory / "weights.safetensors").read_bytes()).hexdigest() != manifest.weights:
        return "weights.safetensors"
    try:
        json.loads((directory / "curves.json").read_text())
    except ValueError:
        return "curves.json"
    return None


def _described(manifest: CheckpointManifest) -> dict[str, str]:
    """What the pages of MLflow show of a version beside its number."""
    return {name: str(getattr(manifest, name)) for name in ("agent", "gamma", "seed", "labels", "snapshot", "weights")}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
