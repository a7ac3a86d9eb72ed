"""Prioritised replay, proportional variant (Schaul, Quan, Antonoglou & Silver 2016).

Departures from the paper: the sum tree has 32 children a node instead of 2, which makes a fifth of the levels and took
half the time; and importance weights are divided by the largest of the batch, the paper not saying which maximum it
means.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dynaq.errors import ArtifactError, InputError
from dynaq.mdp.replay import ReplayBuffer, Transitions, check_column

_FAN_OUT = 32
_SMALLEST = 1e-6  # added to |TD error|, so that a transition learnt perfectly is still seen again
_JUST_BELOW = 1 - 2.0**-52


class SumTree:
    """Sums of float64 [size] weights: change any, or find where a cumulative sum falls, in log_32(size) levels.

    A node is summed up again whenever a child changes, never adjusted by a difference, so that rounding errors do not
    grow with the number of updates; single precision could not tell apart the places of ten million weights.
    """

    def __init__(self, size: int) -> None:
        blocks = [-(-size // _FAN_OUT)]
        while blocks[-1] > 1:
            blocks.append(-(-blocks[-1] // _FAN_OUT))
        # Weights first, root last: the sum of block i is cell i of the level above.
        # numpy's zeros take memory when first written, torch's at once.
        self._levels = [torch.from_numpy(np.zeros((count, _FAN_OUT))) for count in blocks]

    @property
    def nbytes(self) -> int:
        """Bytes of memory once every weight was set."""
        return sum(level.nbytes for level in self._levels)

    @property
    def total(self) -> Tensor:
        """The sum of all weights, float64 []."""
        return self._levels[-1].sum()

    @property
    def weights(self) -> Tensor:
        """The weights in order, float64 [size rounded up to the fan-out], shared."""
        return self._levels[0].view(-1)

    def assign(self, places: Tensor, weights: Tensor) -> None:
        """Set weights at distinct places: int64 [B], float64 [B]."""
        self.weights[places] = weights
        for level, above in pairwise(self._levels):
            places = torch.unique_consecutive(places // _FAN_OUT)
            above.view(-1)[places] = level[places].sum(1)

    def find(self, sums: Tensor) -> Tensor:
        """Places whose share of [0, total) the sums float64 [B] fall into: int64 [B]; never one of weight zero."""
        places = torch.zeros(len(sums), 1, dtype=torch.int64)
        rest = sums[:, None]
        for level in reversed(self._levels):
            edges = F.pad(level[places.squeeze(1)].cumsum(1), (1, 0))
            # Sums of the same weights may differ in their last bit; never fall off the end of a block for it.
            rest = torch.minimum(rest, edges[:, -1:] * _JUST_BELOW)
            child = torch.searchsorted(edges, rest, right=True) - 1
            rest = rest - edges.gather(1, child)
            places = places * _FAN_OUT + child
        return places.squeeze(1)


class PrioritisedReplay:
    """A replay buffer that is sampled by priority, P(i) = p_i^alpha / sum p^alpha with p_i = |TD error| + 1e-6.

    Args:
        capacity: transitions kept.
        alpha: how much priorities count; 0 samples uniformly.

    Attributes:
        buffer: holds the transitions, and their histories; add to it through here only.
    """

    def __init__(self, capacity: int, alpha: float) -> None:
        self.buffer = ReplayBuffer(capacity)
        self.alpha = alpha
        self._tree = SumTree(capacity)
        self._largest = 1.0  # of all p^alpha so far

    @property
    def size(self) -> int:
        """Transitions that can be sampled."""
        return self.buffer.size

    @property
    def nbytes(self) -> int:
        """Bytes of memory when the ring is full."""
        return self.buffer.nbytes + self._tree.nbytes

    def add(self, batch: Transitions) -> Tensor:
        """As ``ReplayBuffer.add``; new transitions get the largest priority so far, to be seen soon."""
        slots = self.buffer.add(batch)
        self._tree.assign(slots, torch.full((len(slots),), self._largest, dtype=torch.float64))
        return slots

    def sample(self, batch_size: int, generator: torch.Generator, beta: float) -> tuple[Transitions, Tensor]:
        """Draw by priority, one from each of batch_size equal shares of their sum; the buffer must not be empty.

        Args:
            batch_size: B.
            generator: draws.
            beta: how far the weights undo the bias of the draw: 0 not at all, 1 fully.

        Returns:
            The transitions, and importance weights (size P(i))^-beta, the largest 1: float32 [B].
        """
        strata = torch.arange(batch_size) + torch.rand(batch_size, dtype=torch.float64, generator=generator)
        total = self._tree.total
        slots = self._tree.find(strata * (total / batch_size))
        weights = (self.size * self._tree.weights[slots] / total) ** -beta
        return self.buffer.at(slots), (weights / weights.max()).float()

    def update(self, slots: Tensor, td_errors: Tensor) -> None:
        """Give transitions new priorities: int64 [B], float [B]; of several for one slot the largest counts.

        Raises:
            InputError: a TD error is not finite; no priority is changed then.
        """
        priorities = (td_errors.detach().double().abs() + _SMALLEST) ** self.alpha
        if not priorities.isfinite().all():
            raise InputError("a TD error is not finite, so it cannot be a priority: lower the learning rate")
        distinct, position = torch.unique(slots, return_inverse=True)
        largest = torch.zeros(len(distinct), dtype=torch.float64).scatter_reduce(0, position, priorities, "amax")
        self._tree.assign(distinct, largest)
        self._largest = max(self._largest, priorities.max().item())

    def tensors(self) -> dict[str, Tensor]:
        """As ``ReplayBuffer.tensors``, with the priorities."""
        return {
            **self.buffer.tensors(),
            "priorities": self._tree.weights[: self.size],
            "largest_priority": torch.tensor([self._largest], dtype=torch.float64),
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave; other names are ignored.

        Raises:
            ArtifactError: they are of another capacity, without priorities, incomplete or of wrong shapes.
        """
        if lacking := {"priorities", "largest_priority"} - tensors.keys():
            raise ArtifactError(f"the saved replay lacks {', '.join(sorted(lacking))}: train again")
        self.buffer.load(tensors)
        check_column("priorities", tensors["priorities"], self.size, torch.float64)
        check_column("largest_priority", tensors["largest_priority"], 1, torch.float64)
        self._tree = SumTree(self.buffer.capacity)
        self._tree.assign(torch.arange(self.size), tensors["priorities"])
        self._largest = tensors["largest_priority"].item()
