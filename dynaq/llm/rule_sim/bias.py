"""The rules with a lean: what a language model may get wrong without saying so, each by a known amount."""

from __future__ import annotations

import random
import re

from dynaq.llm.rule_sim.applicant import play
from dynaq.llm.rule_sim.behaviour import Behaviour
from dynaq.llm.rule_sim.blocks import Blocks

_OBEYED: dict[str, float | str] = {"apply": 0.98, "save": 0.01, "ignore": 0.01, "reason": "other"}

_ORDER = re.compile(
    r"""
    \b ignore \s+ (?:(?:all|any|the|your|these|previous|prior|above) \s+)* instructions
    | \b (?:answer|reply|respond|output) \b .{0,80}? \b apply \b .{0,20}? (?<![\d.]) 1 (?:\.0+)? (?![\d.]*\d)
    | \b you \s+ must \s+ apply \b
    | "apply" \s* : \s* 1 (?:\.0+)? (?![\d.]*\d)
    | (?:^ | [.!?:;] \s+) system \s* :   # where a text or a sentence starts: an operating system is no order
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)


class BiasedApplicant:
    """Plays applicants by the rules, and leans as its behaviour says."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._seen: dict[int, dict[int, int]] = {}  # by hash: applicant -> job -> its position, from 1

    def play(self, blocks: Blocks, chance: random.Random) -> dict[str, float | str]:
        """Answer as ``applicant.play`` does."""
        lean = self._behaviour
        if lean.gullible and chance.random() < lean.gullible and _ORDER.search(blocks.unfenced):
            return dict(_OBEYED)
        shift = lean.positivity
        if lean.position:
            shift += lean.position / self._position(blocks)
        if lean.noise:
            shift += chance.gauss(0, lean.noise)
        return play(blocks.applicant, blocks.job, shift)

    def _position(self, blocks: Blocks) -> int:
        jobs = self._seen.setdefault(hash(blocks.applicant), {})
        return jobs.setdefault(hash(blocks.job), len(jobs) + 1)
