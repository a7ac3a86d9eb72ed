"""What orders hidden in a posting or a resume do to the reward of the frozen pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dynaq.config import LLMConfig
from dynaq.data.snapshot import Snapshot
from dynaq.llm.canaries import CANARIES, CLEAN, CanaryEffect, canary_effects, canary_prompts
from dynaq.llm.label import expected_reward
from dynaq.rewards.audit_pairs import frozen_pairs
from dynaq.rewards.labeller import Labeller
from dynaq.rewards.question import Question


def measure_canaries(
    snapshot: Snapshot, labeller: Labeller, config: LLMConfig, pairs: int, defended: bool
) -> dict[str, CanaryEffect]:
    """Ask about frozen pairs clean and with each canary, behind the prompt's defences or without them.

    Raises:
        LabelError, TransientError, ConfigError: as Labeller does.
    """
    questions: list[Question] = []
    names: list[str] = []
    for applicant, job in frozen_pairs(snapshot, pairs):
        texts = snapshot.applicant_texts[applicant], snapshot.job_texts[job]
        for name, prompt in canary_prompts(*texts, config.max_field_chars, defended).items():
            names.append(name)
            questions.append(Question(snapshot.applicant_ids[applicant], snapshot.job_ids[job], prompt))
    rewards: dict[str, list[float]] = {name: [] for name in (CLEAN, *(canary.name for canary in CANARIES))}
    for name, label in zip(names, labeller(questions), strict=True):
        rewards[name].append(expected_reward(label, config.values) if label else math.nan)
    return canary_effects(rewards)


def canary_table(defended: Mapping[str, CanaryEffect], bare: Mapping[str, CanaryEffect], source: str) -> str:
    """Both measurements as a Markdown table: mean change of the reward with its 95% interval, and of how many pairs.

    A server that refuses a canary gives no label, which is an answer too. ``source`` says who answered.
    """
    lines = [
        f"How far texts that try to buy an answer move the reward of {source}, against the clean pair: above 0 they buy"
        " something. The controls are harmless and as long: what they move is not injection. Pairs: those with an"
        " answer to both; the others were refused.",
        "",
        "| canary | in the | change with defences | pairs | without | pairs |",
        "|---|---|---|---|---|---|",
    ]
    for canary in CANARIES:
        cells = " | ".join(_cells(effect) for effect in (defended[canary.name], bare[canary.name]))
        lines.append(f"| {canary.name} | {canary.side} | {cells} |")
    return "\n".join(lines)


def _cells(effect: CanaryEffect) -> str:
    change = f"{effect.mean:+.3f} [{effect.low:+.3f}, {effect.high:+.3f}]" if effect.pairs else "no label"
    return f"{change} | {effect.pairs}"
