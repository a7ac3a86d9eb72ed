"""How an LLM is asked, what that may cost, and when its answers are not trusted."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dynaq.config.section import Count, Name, Positive, Section, Share, TablePath


class LabelValues(Section):
    """Reward of each answer of the applicant."""

    apply: float
    save: float
    ignore: float


class SamplesConfig(Section):
    """More than one answer to a contested pair.

    Attributes:
        most: answers to a pair.
        contested_below: a pair is asked again while its most likely action has less than this probability.
    """

    most: Count
    contested_below: Share


class RatesConfig(Section):
    """What the provider allows a minute; null: no limit."""

    requests_per_minute: Count | None
    tokens_per_minute: Count | None


class PriceConfig(Section):
    """Money for a million tokens, in any currency.

    Attributes:
        cached: of a prompt that the provider has in its cache; null: as any other.
    """

    prompt: Annotated[float, Field(ge=0)]
    cached: Annotated[float, Field(ge=0)] | None
    completion: Annotated[float, Field(ge=0)]


class BudgetConfig(Section):
    """Where paying stops, for all agents of a night together; null: no limit."""

    labels: Annotated[int, Field(ge=0)] | None
    tokens: Annotated[int, Field(ge=0)] | None
    money: Annotated[float, Field(ge=0)] | None


class GateConfig(Section):
    """What happens where the labels do not agree with themselves, or with people.

    Attributes:
        agreement: the least weighted kappa that is good enough.
        below: ``warn``; ``weigh_down``: fewer updates on labels; ``skip``: no fine-tuning; ``stop``: no night.
    """

    agreement: Annotated[float, Field(ge=-1, le=1)]
    below: Literal["warn", "weigh_down", "skip", "stop"]


class HumanLabelsConfig(Section):
    """A table of what people answered: a .csv, .jsonl or .parquet file and its columns.

    Attributes:
        path: ``${NAME}`` is taken from the environment; without ``..``.
        applicant, job: columns with ids, as in MongoDB.
        action: column with apply, save or ignore, in any case.
    """

    path: TablePath
    applicant: Name
    job: Name
    action: Name


class AuditConfig(Section):
    """The frozen pairs that are asked again every day; 0 pairs: no audit."""

    pairs: Annotated[int, Field(ge=0)]
    human: HumanLabelsConfig | None
    gate: GateConfig


class LLMConfig(Section):
    """How the LLM is asked. Address, key and model name come from the environment.

    Attributes:
        max_retries: of a call that fails in a way that may pass.
        patience_s: with a server that has answered and then is gone (unreachable, or HTTP 502 or 503); calls that find
            it gone are no tries.
    """

    answer: Literal["probabilities", "action"]
    values: LabelValues
    revision: Name | None
    replay_only: bool
    concurrency: Count
    timeout_s: Positive
    max_retries: Annotated[int, Field(ge=0)]
    patience_s: Annotated[float, Field(ge=0)]
    temperature: Annotated[float, Field(ge=0, le=2)]
    samples: SamplesConfig
    max_field_chars: Annotated[int, Field(ge=50)]
    max_missing_share: Share
    rates: RatesConfig
    price: PriceConfig
    budget: BudgetConfig
    audit: AuditConfig

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples.most > 1 and self.temperature == 0:
            raise ValueError(
                f"samples.most is {self.samples.most}, but at temperature 0 every answer to a pair is the same:"
                " raise temperature or set samples.most to 1"
            )
        return self

    @model_validator(mode="after")
    def _money_has_a_price(self) -> Self:
        if self.budget.money is not None and not (self.price.prompt or self.price.completion):
            raise ValueError("budget.money is set, but price.prompt and price.completion are 0: say what tokens cost")
        return self
