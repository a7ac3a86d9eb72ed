"""What one update learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dynaq.mdp.history import History
from dynaq.mdp.replay import Transitions


@dataclass(frozen=True)
class Batch:
    """Transitions to learn from, with the history before each (None for a static state) and their weights [B]."""

    transitions: Transitions
    history: History | None
    weights: Tensor


def joined(a: Batch, b: Batch) -> Batch:
    """One batch after another; of the slots those of the first stay, whose priorities are to be updated."""
    history = None
    if a.history is not None and b.history is not None:
        history = History(
            torch.cat([a.history.jobs, b.history.jobs]), torch.cat([a.history.answers, b.history.answers])
        )
    transitions = replace(a.transitions.joined(b.transitions), slots=a.transitions.slots)
    return Batch(transitions, history, torch.cat([a.weights, b.weights]))
