"""Every knob, typed and bounded: frozen models without defaults, because the defaults live in configs/base.yaml.

Secrets are no configuration: they come from the environment and are read where they are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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
    experiences: Name

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
    """The ensemble that predicts rewards for planning.

    Attributes:
        heads: bootstrapped members.
        state_components, action_components: principal components that they see.
        held_out_share: pairs kept aside to measure skill.
    """

    heads: Annotated[int, Field(ge=2)]
    state_components: Count
    action_components: Count
    held_out_share: Annotated[float, Field(gt=0, lt=1)]


class PlanningConfig(Section):
    """Updates on imagined answers.

    Attributes:
        steps: for each update on real ones, at full skill of the world model.
        penalty: imagined rewards are the mean minus so many standard deviations of the ensemble.
        rejected_share: of imagined pairs, those that the ensemble disagrees about most.
        half_after: answers after which only half as many steps are taken.
    """

    steps: Annotated[int, Field(ge=0)]
    penalty: Annotated[float, Field(ge=0)]
    rejected_share: Annotated[float, Field(ge=0, lt=1)]
    half_after: Count


class HandOverConfig(Section):
    """The switch to another reward.

    Attributes:
        pilot: answers collected before learning goes on, to find the new scale.
        warmup: updates over which the learning rate rises.
        earlier: the experience before the switch counts as so many answers in a batch.
    """

    pilot: Count
    warmup: Count
    earlier: Annotated[int, Field(ge=0)]


class HistoryConfig(Section):
    """The part of the state that remembers: a SASRec encoder."""

    length: Count
    width: Count
    blocks: Count
    heads: Count

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, which {self.heads} heads do not divide")
        return self


class ReplayConfig(Section):
    """The replay buffer; an alpha above 0 samples by TD error."""

    capacity: Count
    alpha: Share
    beta: Share


class AgentConfig(Section):
    """The Dyna-Q agent, the same for all four warm starts."""

    features: Literal["concat", "product", "cosine", "residual"]
    history: HistoryConfig | None
    hidden: Annotated[list[Count], Field(min_length=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    learning_rate: Positive
    batch_size: Count
    gamma: Annotated[float, Field(ge=0, lt=1)]
    target: Literal["bellman", "double", "closed_form"]
    target_sync: Count
    target_share: Annotated[float, Field(gt=0, le=1)]
    reward_centring: Annotated[float, Field(ge=0, le=1)]
    applied_from: float | None
    candidates: Count
    slate: Count
    epsilon: EpsilonConfig
    replay: ReplayConfig
    world_model: WorldModelConfig
    planning: PlanningConfig
    hand_over: HandOverConfig

    @model_validator(mode="after")
    def _slate_fits(self) -> Self:
        if self.slate > self.candidates:
            raise ValueError(f"slate is {self.slate}, but only {self.candidates} candidates are drawn")
        return self

    @model_validator(mode="after")
    def _history_is_a_line(self) -> Self:
        if self.history is not None and self.slate > 1:
            raise ValueError(f"slate is {self.slate}: a history has one job after another, set slate to 1")
        return self

    @model_validator(mode="after")
    def _closed_form_exists(self) -> Self:
        if self.target == "closed_form" and not self.static:
            raise ValueError("target closed_form needs a static state: set history and applied_from to null")
        return self

    @property
    def static(self) -> bool:
        """Whether an answer leaves the state and the candidates as they were, s' = s."""
        return self.history is None and self.applied_from is None


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
        hybrid_learns_from = self.finetune.labels - self.agent.hand_over.pilot
        if hybrid_learns_from < shown:
            raise ValueError(
                f"finetune.labels is {self.finetune.labels}, of which agent.hand_over.pilot takes"
                f" {self.agent.hand_over.pilot}: that leaves less than one step of {shown} to learn from"
            )
        online = self.compare.applicants * self.compare.steps * self.agent.slate
        if online <= self.agent.hand_over.pilot:
            raise ValueError(
                f"compare gives {online} answers, and agent.hand_over.pilot takes {self.agent.hand_over.pilot} before"
                " anything is learned: run more steps or make the pilot smaller"
            )
        a_step = self.agent.slate * max(stage.applicants_per_step for stage in (self.pretrain, self.finetune))
        if self.agent.replay.capacity < max(a_step, self.agent.slate * self.compare.applicants):
            raise ValueError(
                f"agent.replay.capacity is {self.agent.replay.capacity}, less than the answers of a single step"
            )
        if self.market is not None and self.ingest is not None:
            raise ValueError("market and ingest are both set: a night reads tables or generates them, not both")
        return self

    @property
    def work_path(self) -> Path:
        """The working directory as an absolute path."""
        return Path(self.workdir).resolve()
