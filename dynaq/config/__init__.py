"""Every knob, typed and bounded: frozen models without defaults, because the defaults live in configs/base.yaml.

Secrets are no configuration: they come from the environment and are read where they are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from dynaq.config.agent import (
    AgentConfig,
    EpsilonConfig,
    HandOverConfig,
    HistoryConfig,
    PlanningConfig,
    ReplayConfig,
    WorldModelConfig,
)
from dynaq.config.data import (
    Collections,
    EmbeddingConfig,
    ExtractConfig,
    IngestConfig,
    MarketConfig,
    MongoConfig,
    SplitConfig,
    TableConfig,
    Versions,
)
from dynaq.config.llm import (
    AuditConfig,
    BudgetConfig,
    GateConfig,
    HumanLabelsConfig,
    LabelValues,
    LLMConfig,
    PriceConfig,
    RatesConfig,
    SamplesConfig,
)
from dynaq.config.night import NightConfig
from dynaq.config.relevance import JudgeConfig, PairsConfig, RelevanceConfig
from dynaq.config.section import Count, Name, Positive, Section, Seed
from dynaq.config.stages import (
    AskConfig,
    CompareConfig,
    DialConfig,
    FinetuneConfig,
    PretrainConfig,
    RetentionConfig,
    TrackingConfig,
)

__all__ = [
    "AgentConfig",
    "AskConfig",
    "AuditConfig",
    "BudgetConfig",
    "Collections",
    "CompareConfig",
    "Config",
    "DialConfig",
    "EmbeddingConfig",
    "EpsilonConfig",
    "ExtractConfig",
    "FinetuneConfig",
    "GateConfig",
    "HandOverConfig",
    "HistoryConfig",
    "HumanLabelsConfig",
    "IngestConfig",
    "JudgeConfig",
    "LLMConfig",
    "LabelValues",
    "MarketConfig",
    "MongoConfig",
    "NightConfig",
    "PairsConfig",
    "PlanningConfig",
    "PretrainConfig",
    "PriceConfig",
    "RatesConfig",
    "RelevanceConfig",
    "ReplayConfig",
    "RetentionConfig",
    "SamplesConfig",
    "Section",
    "SplitConfig",
    "TableConfig",
    "TrackingConfig",
    "Versions",
    "WorldModelConfig",
]


class Config(Section):
    """The whole configuration of a night."""

    name: Name
    seed: Seed
    workdir: Name
    fresh: Name | None
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
    relevance: RelevanceConfig | None
    judge: JudgeConfig | None
    processes: Count
    save_every_s: Positive
    dask: Annotated[str, Field(pattern=r"^(local|(tcp|tls)://\S+)$")] | None
    retention: RetentionConfig
    tracking: TrackingConfig
    night: NightConfig

    @model_validator(mode="after")
    def _fields_have_names(self) -> Self:
        for side, fields, vectors in (
            ("job", self.extract.job_fields, self.mongo.job_vectors),
            ("applicant", self.extract.applicant_fields, self.mongo.applicant_vectors),
        ):
            if unknown := [field for field in fields if field not in vectors]:
                raise ValueError(f"extract.{side}_fields names {unknown}, mongo.{side}_vectors has {list(vectors)}")
        shown = self.finetune.applicants_per_step * self.agent.slate
        if uneven := [budget for budget in self.finetune.budgets if budget % shown]:
            raise ValueError(f"finetune.budgets has {uneven[0]}, but a step asks for {shown}: name multiples of that")
        hybrid_learns_from = self.finetune.labels - self.agent.hand_over.pilot
        if hybrid_learns_from < shown:
            raise ValueError(
                f"the largest of finetune.budgets is {self.finetune.labels}, of which agent.hand_over.pilot takes"
                f" {self.agent.hand_over.pilot}: that leaves less than one step of {shown} to learn from"
            )
        smallest, pilot = self.finetune.budgets[0], self.agent.hand_over.pilot
        if self.agent.hand_over.earlier and smallest < pilot:
            raise ValueError(
                f"agent.hand_over.earlier replays answers of the phase before, which a budget of {smallest} leaves"
                f" without a scale: agent.hand_over.pilot takes {pilot}; drop the budget or make the pilot smaller"
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
