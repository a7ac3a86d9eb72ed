"""The Dyna-Q agent."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dynaq.config.section import Count, Positive, Section, Share


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
        anchor: strength of the pull back to the warm start's weights (handover.py); 0 for none.
    """

    pilot: Count
    warmup: Count
    earlier: Annotated[int, Field(ge=0)]
    anchor: Annotated[float, Field(ge=0)]


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
