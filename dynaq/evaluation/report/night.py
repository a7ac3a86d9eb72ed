"""All that a report of a night tells."""

from __future__ import annotations

from dataclasses import dataclass

from dynaq.config import Config
from dynaq.data.manifest import Manifest
from dynaq.evaluation.fairness.counterfactual import Swing
from dynaq.evaluation.judges.judged import ArmRelevance
from dynaq.evaluation.similarity import SimilarityReached
from dynaq.evaluation.study.metrics import Curve
from dynaq.evaluation.study.study import Study
from dynaq.llm.endpoint import RULE_SIM


@dataclass(frozen=True)
class Night:
    """All that a report tells.

    Attributes:
        config: of the night.
        manifest: of the snapshot.
        study: the contestants side by side.
        similarity: pre-training quality by seed, at the configured discount.
        training: label of a quantity -> agent -> curve, for the training figures.
        label_source: provenance of the LLM labels.
        label_cost: calls made, labels taken from the store, missing by kind, tokens: summed over agents and seeds.
        account: what has been paid for labels on this snapshot today, and what is left of the budget.
        audit: what asking the LLM again has shown; empty without an audit.
        trusted: whether the labels passed it.
        seconds: how long each stage before the comparison took.
        relevance: title -> how far up each arm ranks what another judge calls relevant; empty without one.
        fairness: arm, what was changed in the texts, what that did; empty where it was not measured.
        champion: what became of the challenger, and why; may be empty.
        missing: labels of the panel that are missing, by reward.
    """

    config: Config
    manifest: Manifest
    study: Study
    similarity: list[SimilarityReached]
    training: dict[str, dict[str, Curve]]
    label_source: str
    label_cost: dict[str, int]
    account: str
    audit: str
    trusted: bool
    seconds: dict[str, float]
    relevance: dict[str, list[ArmRelevance]]
    fairness: list[tuple[str, str, Swing]]
    champion: str
    missing: dict[str, int]

    @property
    def generated(self) -> bool:
        """Whether any posting or applicant was made up."""
        return any(self.manifest.generated.values())

    @property
    def stand_in(self) -> bool:
        """Whether the labels come from rules instead of an LLM."""
        return RULE_SIM in self.label_source
