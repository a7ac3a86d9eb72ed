"""Replay buffer: a ring of indices, 29 bytes a transition, in which the events of each applicant are chained.

A transition's serial number counts every transition ever added; it lies in slot ``serial % capacity`` until the ring
comes round.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynaq.errors import ArtifactError
from dynaq.mdp.history import History

_COLUMNS = {
    "applicants": torch.int32,
    "jobs": torch.int32,
    "rewards": torch.float32,
    "next_seeds": torch.int64,
    "terminated": torch.bool,
    "previous": torch.int64,  # serial number of the same applicant's event before, -1 at the first
}


@dataclass(frozen=True)
class Transitions:
    """A batch of B transitions (s, a, r, s', A'): the state is the applicant's, and A' is drawn from its seed.

    Attributes:
        applicants: int64 [B], rows of the snapshot.
        jobs: int64 [B], the jobs shown.
        rewards: float32 [B], never NaN.
        next_seeds: int64 [B], seeds of the next candidate sets.
        terminated: bool [B]; a terminated session has no next state, a truncated one has.
        slots: int64 [B], where they lie in the buffer they were read from; None if they come from none.
    """

    applicants: Tensor
    jobs: Tensor
    rewards: Tensor
    next_seeds: Tensor
    terminated: Tensor
    slots: Tensor | None = None

    def joined(self, other: Transitions) -> Transitions:
        """These and then others, whose slots are of another buffer and are dropped."""
        parts = (
            torch.cat([getattr(self, name), getattr(other, name)])
            for name in ("applicants", "jobs", "rewards", "next_seeds", "terminated")
        )
        return Transitions(*parts)


class ReplayBuffer:
    """Ring buffer with uniform sampling (Lin 1992); the oldest transition gives way when it is full.

    Memory is taken as the ring fills, not when it is made.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._added = 0
        self._columns = {name: torch.empty(capacity, dtype=dtype) for name, dtype in _COLUMNS.items()}
        self._last = torch.empty(0, dtype=torch.int64)  # by applicant: serial number of the newest event, or -1

    @property
    def size(self) -> int:
        """Transitions that can be read; their slots are 0 to size - 1."""
        return min(self._added, self.capacity)

    @property
    def nbytes(self) -> int:
        """Bytes of memory when the ring is full, with those kept for each applicant met so far."""
        return sum(column.nbytes for column in [*self._columns.values(), self._last])

    def add(self, batch: Transitions) -> Tensor:
        """Append transitions, leaving out those without a reward (NaN).

        Returns:
            int64 [number kept]: the slots written.
        """
        kept = (~torch.isnan(batch.rewards)).nonzero().squeeze(1)[-self.capacity :]
        applicants = batch.applicants[kept]
        serials = self._added + torch.arange(len(kept))
        slots = serials % self.capacity
        self._columns["applicants"][slots] = applicants.int()
        self._columns["jobs"][slots] = batch.jobs[kept].int()
        self._columns["rewards"][slots] = batch.rewards[kept]
        self._columns["next_seeds"][slots] = batch.next_seeds[kept]
        self._columns["terminated"][slots] = batch.terminated[kept]
        self._columns["previous"][slots] = self._chain(applicants, serials)
        self._added += len(kept)
        return slots

    def _chain(self, applicants: Tensor, serials: Tensor) -> Tensor:
        """The serial numbers of the events before these, which become their applicants' newest."""
        self._make_room(applicants)
        previous = self._last[applicants]
        order = torch.argsort(applicants, stable=True)
        earlier, later = order[:-1], order[1:]
        repeated = applicants[earlier] == applicants[later]
        previous[later[repeated]] = serials[earlier[repeated]]
        self._last.scatter_reduce_(0, applicants, serials, "amax")
        return previous

    def _make_room(self, applicants: Tensor) -> None:
        rows = int(applicants.max()) + 1 if len(applicants) else 0
        if rows > len(self._last):
            larger = torch.full((max(rows, 2 * len(self._last)),), -1)
            larger[: len(self._last)] = self._last
            self._last = larger

    def sample(self, batch_size: int, generator: torch.Generator) -> Transitions:
        """Draw uniformly with replacement; the buffer must not be empty."""
        return self.at(torch.randint(self.size, (batch_size,), generator=generator))

    def newest(self, count: int) -> Transitions:
        """The last transitions added, at most ``count``, in the order they were added."""
        first = self._added - min(count, self.size)
        return self.at(torch.arange(first, self._added) % self.capacity)

    def at(self, slots: Tensor) -> Transitions:
        """The transitions in the given slots, int64 [B]."""
        return Transitions(
            self._columns["applicants"][slots].long(),
            self._columns["jobs"][slots].long(),
            self._columns["rewards"][slots],
            self._columns["next_seeds"][slots],
            self._columns["terminated"][slots],
            slots,
        )

    def histories(self, slots: Tensor, length: int) -> Tensor:
        """The events of the same applicants before the given ones, oldest first: int64 [B] -> slots int64 [B, length].

        -1 fills the front where there are fewer, or where the ring has come round over them.
        """
        return self._back_from(self._columns["previous"][slots], length)

    def recent(self, applicants: Tensor, length: int) -> Tensor:
        """The last events of applicants, oldest first: int64 [B] -> slots int64 [B, length], -1 as in ``histories``."""
        self._make_room(applicants)
        return self._back_from(self._last[applicants], length)

    def events(self, slots: Tensor) -> History:
        """What was shown and answered in slots int64 [B, length]; -1 is nothing."""
        there = slots >= 0
        jobs = self._columns["jobs"][slots.clamp(min=0)].long()
        return History(jobs.where(there, -1), self._columns["rewards"][slots.clamp(min=0)].where(there, 0.0))

    def _back_from(self, serials: Tensor, length: int) -> Tensor:
        """Slots of these events and of those before them, oldest first: int64 [B] -> [B, length]."""
        oldest = self._added - self.size
        histories = torch.full((len(serials), length), -1)
        for column in reversed(range(length)):
            # An event that is gone or never was hands on a number too small for every earlier column as well.
            before = torch.where(serials >= oldest, serials % self.capacity, -1)
            histories[:, column] = before
            serials = torch.where(before >= 0, self._columns["previous"][before], -1)
        return histories

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to go on, by name; the filled part of the ring is shared, not copied: save it at once."""
        counters = torch.tensor([self.capacity, self._added])
        return {"counters": counters, **{name: column[: self.size] for name, column in self._columns.items()}}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` gave; other names are ignored, what the buffer held is forgotten.

        Raises:
            ArtifactError: they are of a buffer of another capacity, incomplete or of wrong shapes.
        """
        if lacking := {"counters", *_COLUMNS} - tensors.keys():
            raise ArtifactError(f"the saved replay lacks {', '.join(sorted(lacking))}: train again")
        check_column("counters", tensors["counters"], 2, torch.int64)
        capacity, added = tensors["counters"].tolist()
        if capacity != self.capacity:
            raise ArtifactError(
                f"the saved replay has a capacity of {capacity}, the configured one of {self.capacity}:"
                f" set agent.replay.capacity to {capacity} or train again"
            )
        size = min(added, capacity)
        for name, dtype in _COLUMNS.items():
            check_column(name, tensors[name], size, dtype)
        self._added = added
        for name, column in self._columns.items():
            column[:size] = tensors[name]
        self._last = self._last[:0]
        slots = torch.arange(size)
        # An applicant's newest event is found in the ring again; one that is gone would begin no history anyway.
        self._chain(tensors["applicants"].long(), added - 1 - (added - 1 - slots) % capacity)


def check_column(name: str, column: Tensor, size: int, dtype: torch.dtype) -> None:
    """Raise ArtifactError unless a saved column is [size] of the given type."""
    if column.shape != (size,) or column.dtype != dtype:
        raise ArtifactError(
            f"{name} of the saved replay is {column.dtype} {list(column.shape)} where {dtype} [{size}] belongs:"
            " train again"
        )
