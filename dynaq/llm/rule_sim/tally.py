"""What the server remembers of its calls: who was billed for what, and which prefixes it has read before."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any

from dynaq.llm.rule_sim.behaviour import Fault
from dynaq.llm.rule_sim.blocks import Blocks

_PREFIXES = 1024


@dataclass
class Tally:
    """Counts of calls.

    Attributes:
        requests: completions that were asked for, bad requests included.
        paid: answered with HTTP 200, or at least half answered.
        labels: answered with a label that is what the schema asks for.
        faults: how many requests each befell.
        pairs: by hash of the two texts: how many labels a pair was answered with.
    """

    requests: int = 0
    paid: int = 0
    labels: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    pairs: Counter[int] = field(default_factory=Counter)

    def label(self, blocks: Blocks) -> None:
        """Count a label."""
        self.labels += 1
        self.pairs[hash((blocks.applicant, blocks.job))] += 1

    def of_calls(self) -> dict[str, Any]:
        """For ``GET /v1/stand-in/calls``."""
        return {"requests": self.requests, "paid": self.paid, "labels": self.labels, "faults": dict(self.faults)}

    def of_pairs(self) -> dict[str, int]:
        """For ``GET /v1/stand-in/pairs``: distinct pairs, and the labels of the one that has most."""
        return {"pairs": len(self.pairs), "most": max(self.pairs.values(), default=0)}


class PrefixCache:
    """Stands for a provider's prompt cache: the words of the prefixes that were read last, by hash."""

    def __init__(self) -> None:
        self._words: OrderedDict[int, int] = OrderedDict()

    def read(self, prefix: str) -> tuple[int, bool]:
        """How many words it has, and whether it was read before."""
        key = hash(prefix)
        words = self._words.get(key)
        if words is not None:
            self._words.move_to_end(key)
            return words, True
        self._words[key] = words = len(prefix.split())
        if len(self._words) > _PREFIXES:
            self._words.popitem(last=False)
        return words, False
