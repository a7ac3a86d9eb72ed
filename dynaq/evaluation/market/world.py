"""The markets that contestants are judged in."""

from __future__ import annotations

from dataclasses import dataclass

from dynaq.config import DialConfig

OWN = "own"  # the market's hidden utilities as they are


@dataclass(frozen=True)
class World:
    """A market to be judged in.

    Attributes:
        towards: the training reward that its utilities are dialled towards; ``own``: the hidden utilities as they are.
        level: how far, from 0 to 1.
    """

    towards: str = OWN
    level: float = 0.0

    @property
    def name(self) -> str:
        """For directories: own, or cosine0.5."""
        return self.towards if self.towards == OWN else f"{self.towards}{self.level:g}"


def worlds(dial: DialConfig) -> list[World]:
    """The dialled ones, each once: at level 0 no reward is agreed with, whichever is named."""
    return [
        World(name, level) for name in dial.rewards for level in dial.levels if level > 0 or name == dial.rewards[0]
    ]
