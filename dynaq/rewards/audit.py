"""Can the labels be trusted: frozen pairs asked again each day, what people said, and what follows from it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from dynaq.config import GateConfig, LLMConfig
from dynaq.data.snapshot import Snapshot
from dynaq.llm.label import ACTIONS, Label, expected_reward
from dynaq.llm.prompt import build_prompt
from dynaq.rewards.audit_pairs import Pair, frozen_pairs, human_labels
from dynaq.rewards.labeller import Labeller
from dynaq.rewards.question import Question

_FEWEST = 5  # pairs that an agreement can be said of
_SURE = 0.99
_ORDER = {"ignore": 0, "save": 1, "apply": 2}


@dataclass(frozen=True)
class Audit:
    """What asking again has shown.

    Attributes:
        pairs: frozen pairs with a label both times.
        kappa: weighted agreement of their likeliest actions with those of the first time; NaN for too few.
        change, change_low, change_high: of the mean reward since the first time, with a 99% interval.
        shares_first, shares_now: mean probability of each action.
        human_pairs, human_kappa: what people answered; 0 and NaN without a table.
        weight: of the labels in training, in [0, 1].
        passed: whether the gate let them through, or too little is known.
        verdict: one sentence.
    """

    pairs: int
    kappa: float
    change: float
    change_low: float
    change_high: float
    shares_first: dict[str, float]
    shares_now: dict[str, float]
    human_pairs: int
    human_kappa: float
    weight: float
    passed: bool
    verdict: str

    @property
    def drifted(self) -> bool:
        """Whether the mean reward has moved beyond chance."""
        return self.change_low > 0 or self.change_high < 0

    def sentence(self) -> str:
        """The verdict and the figures behind it."""
        if math.isnan(self.change):
            return self.verdict
        shares = ", ".join(
            f"{action.upper()} {self.shares_first[action]:.2f} then, {share:.2f} now"
            for action, share in self.shares_now.items()
        )
        moved = "has moved" if self.drifted else "has not moved beyond chance"
        return (
            f"{self.verdict} Of {self.pairs} frozen pairs asked again, the mean reward {moved}:"
            f" {self.change:+.3f} [{self.change_low:+.3f}, {self.change_high:+.3f}]; {shares}."
        )

    def as_json(self) -> dict[str, Any]:
        """For JSON, which has no NaN."""
        return {name: None if value != value else value for name, value in asdict(self).items()}

    @classmethod
    def read(cls, file: Path) -> Audit:
        """What as_json gave, from a file."""
        stored: dict[str, Any] = json.loads(file.read_text())
        return cls(**stored | {name: math.nan for name, value in stored.items() if value is None})

    def metrics(self) -> dict[str, float]:
        """The figures that are worth a curve over nights."""
        shares = {f"audit_share_{action}": share for action, share in self.shares_now.items()}
        figures = {"audit_kappa": self.kappa, "audit_reward_change": self.change, "audit_weight": self.weight}
        human = {"audit_human_kappa": self.human_kappa}
        return {name: value for name, value in (figures | human | shares).items() if not math.isnan(value)}


def audit(snapshot: Snapshot, labeller: Labeller, config: LLMConfig, today: date) -> Audit:
    """Ask the frozen pairs again, once a day; compare with the first time, and with people.

    Raises:
        InputError: the table of human labels cannot be used.
        LabelError: labels cannot be had.
        TransientError: a server did not answer.
    """
    pairs = frozen_pairs(snapshot, config.audit.pairs)
    first = _ask(snapshot, labeller, config, pairs, 0)
    again = _ask(snapshot, labeller, config, pairs, int(today.strftime("%Y%m%d")))
    both = [(a, b) for a, b in zip(first, again, strict=True) if a is not None and b is not None]
    human = human_labels(snapshot, config.audit.human) if config.audit.human else {}
    asked = _ask(snapshot, labeller, config, list(human), 0)
    judged = [(said, label.action) for said, label in zip(human.values(), asked, strict=True) if label is not None]
    agreement = _kappa([(a.action, b.action) for a, b in both])
    with_people = _kappa(judged)
    weight, passed, verdict = _judge(config.audit.gate, agreement, with_people)
    changes = [expected_reward(b, config.values) - expected_reward(a, config.values) for a, b in both]
    return Audit(
        len(both),
        agreement,
        *_interval(changes),
        _shares([a for a, _ in both]),
        _shares([b for _, b in both]),
        len(judged),
        with_people,
        weight,
        passed,
        verdict,
    )


def _ask(
    snapshot: Snapshot, labeller: Labeller, config: LLMConfig, pairs: Sequence[Pair], sample: int
) -> list[Label | None]:
    return labeller(
        [
            Question(
                snapshot.applicant_ids[a],
                snapshot.job_ids[j],
                build_prompt(snapshot.applicant_texts[a], snapshot.job_texts[j], config.max_field_chars),
                sample,
            )
            for a, j in pairs
        ]
    )


def _kappa(answers: Sequence[tuple[str, str]]) -> float:
    """Cohen's kappa with quadratic weights; 1 where all are the same one answer, NaN for fewer than 5."""
    if len(answers) < _FEWEST:
        return math.nan
    first, second = ([_ORDER[action] for action in side] for side in zip(*answers, strict=True))
    if len({*first, *second}) == 1:
        return 1.0
    return float(cohen_kappa_score(first, second, weights="quadratic", labels=list(_ORDER.values())))


def _judge(gate: GateConfig, agreement: float, with_people: float) -> tuple[float, bool, str]:
    """Weight of the labels in training, whether the gate lets them through, and why."""
    found = {"their first selves": agreement, "people": with_people}
    known = {name: kappa for name, kappa in found.items() if not math.isnan(kappa)}
    if not known:
        return 1.0, True, "Too few answers to say whether the labels can be trusted."
    worst = min(known, key=lambda name: known[name])
    kappa, bound = known[worst], gate.agreement
    words = f"the labels agree with {worst} by a weighted kappa of {kappa:.2f}"
    if kappa >= bound:
        return 1.0, True, f"{words[0].upper()}{words[1:]}; llm.audit.gate asks for {bound:g}."
    words = f"Only {kappa:.2f} instead of llm.audit.gate.agreement {bound:g}: {words}"
    if gate.below == "stop":
        return 0.0, False, f"{words}; look at the labels, or set llm.audit.gate.below to warn."
    if gate.below == "warn":
        return 1.0, False, f"{words}; they count in full all the same."
    weight = 0.0 if gate.below == "skip" or bound <= 0 else round(max(0.0, kappa) / bound, 1)
    if weight == 0:
        return 0.0, False, f"{words}; nothing is fine-tuned on them."
    return weight, False, f"{words}; they count for {weight:g} of the configured updates."


def _interval(changes: Sequence[float]) -> tuple[float, float, float]:
    """Mean with its interval, Student's t; no width where all are the same."""
    if len(changes) < _FEWEST:
        return math.nan, math.nan, math.nan
    mean, error = float(np.mean(changes)), float(stats.sem(changes))
    width = error * float(stats.t.ppf(0.5 + _SURE / 2, len(changes) - 1))
    return mean, mean - width, mean + width


def _shares(labels: Sequence[Label]) -> dict[str, float]:
    return (
        {action: float(np.mean([getattr(label, action) for label in labels])) for action in ACTIONS} if labels else {}
    )
