"""The stages of a night."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from dynaq.config.section import Count, Name, Section, Share


class PretrainConfig(Section):
    """Training on the free cosine reward."""

    steps: Count
    applicants_per_step: Count
    updates_per_step: Count


class AskConfig(Section):
    """Which pairs the LLM is asked about.

    Attributes:
        strategy: ``policy``: what the agent would show, with ``finetune.epsilon``; ``uniform``: any; ``top_q``: the
            highest values; ``uncertainty``: the largest disagreement of the world model; ``mixed``: disagreement
            times the chance to enter the top, spread over the batch.
        pool: all but ``policy`` choose among the candidates of so many times the applicants of a step.
        uniform_share: of their questions, those drawn at random all the same. The world model's skill is measured on
            some of them, so with 0 there is none, and no planning.
        per_applicant: most questions to one applicant in a step.
    """

    strategy: Literal["policy", "uniform", "top_q", "uncertainty", "mixed"]
    pool: Count
    uniform_share: Share
    per_applicant: Count


class FinetuneConfig(Section):
    """Training on LLM feedback.

    Attributes:
        budgets: questions of an agent after which a checkpoint is kept, ascending: the cost axis of the comparison.
    """

    budgets: Annotated[list[Count], Field(min_length=1)]
    applicants_per_step: Count
    updates_per_step: Count
    epsilon: Share
    ask: AskConfig

    @property
    def labels(self) -> int:
        """The largest budget."""
        return self.budgets[-1]

    @field_validator("budgets")
    @classmethod
    def _ascending(cls, budgets: list[int]) -> list[int]:
        if budgets != sorted(set(budgets)):
            raise ValueError("budgets must ascend")
        return budgets


class DialConfig(Section):
    """Markets that agree with a training reward as far as told: the rows of the map.

    Attributes:
        levels: correlations of utility and reward; none: no map.
        rewards: which training rewards; ``llm`` asks about every pair of the panel, on an account of its own.
    """

    levels: list[Share]
    rewards: Annotated[list[Literal["cosine", "llm"]], Field(min_length=1)]


class CompareConfig(Section):
    """The simulated online market and what is read off it.

    Attributes:
        seeds: markets and trained agents of each arm: the unit of replication.
        applicants: held-out applicants who come to each market.
        jobs: most held-out jobs of its catalogue.
        thresholds: shares of the way from random to the optimum, whose times are told; set before anything was run.
        window: steps of trailing means, and for which a threshold is to be held; also the first steps, the jump-start.
        late_share: of the steps, at the end.
        margin: by how much a challenger must be ahead of the champion, in reward per step. They meet in as many
            markets again, in which nobody was chosen.
    """

    seeds: Annotated[int, Field(ge=2)]
    applicants: Count
    jobs: Count
    steps: Count
    updates_per_step: Count
    epsilon: Share
    thresholds: Annotated[list[Share], Field(min_length=1)]
    window: Count
    late_share: Annotated[float, Field(gt=0, le=1)]
    dial: DialConfig
    margin: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.window > self.steps:
            raise ValueError(f"window is {self.window}, but there are only {self.steps} steps")
        return self

    @property
    def late_steps(self) -> int:
        """How many the last share of the steps are."""
        return math.ceil(self.late_share * self.steps)


class RetentionConfig(Section):
    """What of earlier nights is kept; never removed are labels and what a champion needs.

    Attributes:
        nights: what the last so many days (UTC) with a report have used; null: everything.
    """

    nights: Count | None


class TrackingConfig(Section):
    """Where MLflow keeps runs."""

    experiment: Name
    uri: str | None

    @field_validator("experiment")
    @classmethod
    def _names_a_model(cls, experiment: str) -> str:
        if set(experiment) & set("/:"):
            raise ValueError("the champion is registered under this name, and MLflow allows no / and no : in it")
        return experiment

    @field_validator("uri")
    @classmethod
    def _no_secret(cls, uri: str | None) -> str | None:
        if uri is not None and "@" in uri:
            raise ValueError("an address with a user or password is a secret: give it as MLFLOW_TRACKING_URI instead")
        return uri
