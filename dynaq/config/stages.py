"""The stages of a night."""

from __future__ import annotations

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
        pool: the last three choose among the candidates of so many times the applicants of a step.
        uniform_share: of their questions, those drawn at random all the same. The world model's skill is measured on
            some of them, so with 0 there is none, and no planning.
        per_applicant: most questions to one applicant in a step.
    """

    strategy: Literal["policy", "uniform", "top_q", "uncertainty", "mixed"]
    pool: Count
    uniform_share: Share
    per_applicant: Count


class FinetuneConfig(Section):
    """Training on LLM feedback: a budget of labels for each agent and seed."""

    labels: Count
    applicants_per_step: Count
    updates_per_step: Count
    epsilon: Share
    ask: AskConfig


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
