"""Every knob, typed and bounded: frozen models without defaults, because the defaults live in configs/base.yaml.

Secrets are no configuration: they come from the environment and are read where they are used.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dynaq.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A group of knobs: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class MarketConfig(Section):
    """Size and seed of a generated demo market."""

    jobs: Count
    applicants: Count
    seed: Seed


class Collections(Section):
    """Names of the MongoDB collections."""

    jobs: Name
    job_embeddings: Name
    applicants: Name
    applicant_embeddings: Name
    labels: Name

    @model_validator(mode="after")
    def _one_purpose_each(self) -> Self:
        _distinct("collections", list(self.model_dump().values()))
        return self


class MongoConfig(Section):
    """Where documents lie and what their fields are called. The address is the secret MONGODB_URI."""

    database: Name
    timeout_s: Positive
    collections: Collections
    job_id: Name
    applicant_id: Name
    job_vectors: dict[Name, Name]
    applicant_vectors: dict[Name, Name]

    @model_validator(mode="after")
    def _one_field_each(self) -> Self:
        _distinct("job_vectors", list(self.job_vectors.values()))
        _distinct("applicant_vectors", list(self.applicant_vectors.values()))
        return self


class TableConfig(Section):
    """One table of postings or applicants, and which of its columns feed which field.

    Attributes:
        path: a .csv, .jsonl or .parquet file; ``${NAME}`` is taken from the environment.
        id: the column with the stable id.
        columns: text field -> columns joined into it. Their vectors are computed.
        attributes: plain field -> column, carried along for prompts and the evaluator.
    """

    path: Name
    id: Name
    columns: dict[Name, Annotated[list[Name], Field(min_length=1)]]
    attributes: dict[Name, Name]


class IngestConfig(Section):
    """The two tables that the ingest flow reads."""

    jobs: TableConfig
    applicants: TableConfig


class EmbeddingConfig(Section):
    """How text becomes vectors."""

    batch_size: Count
    documents_per_commit: Count


class ExtractConfig(Section):
    """What goes into a snapshot."""

    job_fields: Annotated[list[Name], Field(min_length=1)]
    applicant_fields: Annotated[list[Name], Field(min_length=1)]
    dimension: Count
    cosine_pairs: list[Annotated[list[Name], Field(min_length=2, max_length=2)]]
    job_text: dict[Name, Name]
    applicant_text: dict[Name, Name]
    batch_size: Count
    max_quarantined_share: Share

    @model_validator(mode="after")
    def _cosine_is_defined(self) -> Self:
        _distinct("job_fields", self.job_fields)
        _distinct("applicant_fields", self.applicant_fields)
        for applicant_field, job_field in self.cosine_pairs:
            if applicant_field not in self.applicant_fields or job_field not in self.job_fields:
                raise ValueError(
                    f"cosine_pairs names [{applicant_field}, {job_field}], which is not a pair of"
                    f" applicant_fields {self.applicant_fields} and job_fields {self.job_fields}"
                )
        if not self.cosine_pairs and len(self.applicant_fields) != len(self.job_fields):
            raise ValueError(
                f"the cosine of concatenations needs as many applicant fields as job fields, here"
                f" {len(self.applicant_fields)} and {len(self.job_fields)}: list cosine_pairs instead"
            )
        return self


class SplitConfig(Section):
    """Which applicants are kept for the comparison."""

    held_out_share: Annotated[float, Field(gt=0, lt=1)]


class EpsilonConfig(Section):
    """Linear decay of the exploration rate over environment steps."""

    start: Share
    end: Share
    steps: Count


class WorldModelConfig(Section):
    """The network that predicts rewards for planning."""

    hidden: Annotated[list[Count], Field(min_length=1)]
    learning_rate: Positive
    held_out_share: Annotated[float, Field(gt=0, lt=1)]


class AgentConfig(Section):
    """The Dyna-Q agent, the same for all four warm starts."""

    features: Literal["concat", "product"]
    hidden: Annotated[list[Count], Field(min_length=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    learning_rate: Positive
    batch_size: Count
    gamma: Annotated[float, Field(ge=0, lt=1)]
    target_sync: Count
    candidates: Count
    slate: Count
    epsilon: EpsilonConfig
    replay_capacity: Count
    world_model: WorldModelConfig
    planning_steps: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _slate_fits(self) -> Self:
        if self.slate > self.candidates:
            raise ValueError(f"slate is {self.slate}, but only {self.candidates} candidates are drawn")
        return self


class PretrainConfig(Section):
    """Training on the free cosine reward."""

    steps: Count
    applicants_per_step: Count
    updates_per_step: Count


class FinetuneConfig(Section):
    """Training on LLM feedback: a budget of labels for each agent and seed."""

    labels: Count
    applicants_per_step: Count
    updates_per_step: Count
    epsilon: Share


class LabelValues(Section):
    """Reward of each answer of the applicant."""

    apply: float
    save: float
    ignore: float


class LLMConfig(Section):
    """How the LLM is asked. Address, key and model name come from the environment."""

    values: LabelValues
    concurrency: Count
    timeout_s: Positive
    max_retries: Annotated[int, Field(ge=0)]
    temperature: Annotated[float, Field(ge=0, le=2)]
    max_field_chars: Annotated[int, Field(ge=50)]
    max_missing_share: Share


class CompareConfig(Section):
    """The simulated online environment and what is read off it."""

    seeds: Annotated[int, Field(ge=2)]
    applicants: Count
    steps: Count
    updates_per_step: Count
    epsilon: Share
    threshold_share: Share
    window: Count
    late_share: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.window > self.steps:
            raise ValueError(f"window is {self.window}, but there are only {self.steps} steps")
        return self


class TrackingConfig(Section):
    """Where MLflow keeps runs."""

    experiment: Name
    uri: str | None

    @field_validator("uri")
    @classmethod
    def _no_secret(cls, uri: str | None) -> str | None:
        if uri is not None and "@" in uri:
            raise ValueError("an address with a user or password is a secret: give it as MLFLOW_TRACKING_URI instead")
        return uri


def _distinct(what: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{what} names {', '.join(twice)} more than once")


class Config(Section):
    """The whole configuration of a night."""

    name: Name
    seed: Seed
    workdir: Name
    market: MarketConfig | None
    mongo: MongoConfig
    ingest: IngestConfig | None
    embedding: EmbeddingConfig
    extract: ExtractConfig
    split: SplitConfig
    agent: AgentConfig
    pretrain: PretrainConfig
    finetune: FinetuneConfig
    llm: LLMConfig
    compare: CompareConfig
    processes: Count
    tracking: TrackingConfig

    @model_validator(mode="after")
    def _fields_have_names(self) -> Self:
        for side, fields, vectors in (
            ("job", self.extract.job_fields, self.mongo.job_vectors),
            ("applicant", self.extract.applicant_fields, self.mongo.applicant_vectors),
        ):
            if unknown := [field for field in fields if field not in vectors]:
                raise ValueError(f"extract.{side}_fields names {unknown}, mongo.{side}_vectors has {list(vectors)}")
        shown = self.finetune.applicants_per_step * self.agent.slate
        if self.finetune.labels < shown:
            raise ValueError(f"finetune.labels is {self.finetune.labels}, but one step asks for {shown}")
        if self.market is not None and self.ingest is not None:
            raise ValueError("market and ingest are both set: a night reads tables or generates them, not both")
        return self

    @property
    def work_path(self) -> Path:
        """The working directory as an absolute path."""
        return Path(self.workdir).resolve()


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Read a YAML file, what it extends, and dotted overrides such as ``{"agent.gamma": 0.0}``.

    Raises:
        ConfigError: a file is missing or no mapping, or a key is unknown, missing, mistyped or out of range.
    """
    tree = _read_yaml(Path(path))
    for dotted, value in (overrides or {}).items():
        _set_dotted(tree, dotted, value)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        changed = f" with {', '.join(overrides)} changed" if overrides else ""
        raise ConfigError(f"{path}{changed}: {_explain(error)}") from None


def _read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"{path} extends itself")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"cannot read the configuration {path}: {reason}") from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise ConfigError(f"{path} is not valid YAML{line}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of knobs, found {type(tree).__name__}")
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    return _merge(_read_yaml(path.parent / str(parent), (*seen, path.resolve())), tree)


# Mappings of names are whole values: a preset that maps two columns must not inherit the other's four.
_WHOLE = {"columns", "attributes", "job_vectors", "applicant_vectors", "job_text", "applicant_text"}


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        inherited = merged.get(key)
        if isinstance(inherited, dict) and isinstance(value, dict) and key not in _WHOLE:
            value = _merge(inherited, value)
        merged[key] = value
    return merged


def _set_dotted(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    node: Any = tree
    for depth, key in enumerate(parents):
        node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            sections = ", ".join(key for key, value in tree.items() if isinstance(value, dict))
            raise ConfigError(
                f"override {dotted}: there is no section {'.'.join(parents[: depth + 1])} among {sections}"
            )
    if leaf not in node:
        raise ConfigError(f"override {dotted}: there is no such key; {', '.join(map(str, node))} exist here")
    node[leaf] = value


def _explain(error: ValidationError) -> str:
    """All problems in one line, each with its dotted key, the value given and what was wanted."""
    problems = []
    for issue in error.errors():
        key = ".".join(str(part) for part in issue["loc"]) or "configuration"
        if issue["type"] == "extra_forbidden":
            problems.append(f"{key} is no known key")
        elif issue["type"] == "missing":
            problems.append(f"{key} is missing")
        else:
            silent = isinstance(issue["input"], dict) or key.endswith("uri")  # an address may hold a password
            given = ":" if silent else f" is {issue['input']!r}:"
            problems.append(f"{key}{given} {issue['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)


def expand_environment(path: str) -> Path:
    """Replace ``${NAME}`` in a path by the environment variable.

    Raises:
        ConfigError: the variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"path {path} needs the environment variable {name}, which is not set")
        return os.environ[name]

    return Path(re.sub(r"\$\{(\w+)\}", value, path))
