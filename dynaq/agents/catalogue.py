"""The best k jobs of the whole catalogue: every job scored, block by block, in memory that does not grow with it.

The job half of the network's first layer is computed once for a checkpoint; an applicant then costs one state half
and the layers behind it. Those layers bind, not memory: with hidden layers 512 and 256 a job takes 131,000
multiply-adds, and their bare matrix product is two thirds of the time measured. So a half stored as bfloat16, at half
the memory, is no faster: 4-7 % slower as measured.

Every block has the same shape, the last one filled up with zeros. Matrix libraries round by the shape they are given;
so equal jobs get bit-equal values wherever they stand, and an applicant the same ones alone or in a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynaq.agents.network import PairNetwork
from dynaq.errors import InputError

# 1 MiB of float32 in each intermediate of a block. Smaller blocks repeat the packing of the weights too often. Larger
# ones gained about a tenth, but could come from the system at every use, and page faults then cost half as much again.
_BLOCK_FLOATS = 2**18


@dataclass(frozen=True)
class TopK:
    """The best jobs of each applicant, best first; among equals the lower row first.

    Attributes:
        jobs: rows of the catalogue, int64 [B, k].
        values: what the network says of them, float32 [B, k].
    """

    jobs: Tensor
    values: Tensor


class Catalogue:
    """Every job under one state of a network, which is copied: training on does not change what is served.

    Args:
        network: the Q-network.
        actions: float32 [M, Da], the jobs; kept only for a network that multiplies them with the state.
        storage: float32 for the network's exact order; bfloat16 takes half the memory, and its order is that of
            rounded halves.

    Raises:
        InputError: there is no job, one is not finite, or storage is another type.
    """

    def __init__(self, network: PairNetwork, actions: Tensor, storage: torch.dtype = torch.float32) -> None:
        if storage not in (torch.float32, torch.bfloat16):
            raise InputError(f"job halves are stored as float32 or bfloat16, not as {storage}")
        if actions.ndim != 2 or len(actions) == 0:
            raise InputError(f"a catalogue needs jobs [M, Da] with M at least 1, found {list(actions.shape)}")
        self._network = copy.deepcopy(network).requires_grad_(False).eval()
        self._state_size = network.state_size
        self._actions = actions if network.pairs else None
        hidden = self._network.job_half(actions[:1]).shape[1]
        widest = max(layer.out_features for layer in self._network.modules() if isinstance(layer, nn.Linear))
        if network.pairs:
            widest = max(widest, actions.shape[1])
        fitting = max(8, _BLOCK_FLOATS // widest // 8 * 8)  # whole tiles of the matrix product
        self._block = min(fitting, -(-len(actions) // 8) * 8)
        self._halves = torch.empty(len(actions), hidden, dtype=storage)
        for start, stop in self._spans(len(actions)):
            half = self._network.job_half(self._filled(actions[start:stop]))[: stop - start]
            if not half.isfinite().all():
                row = start + int(torch.nonzero(~half.isfinite().all(1))[0])
                raise InputError(f"job {row} has no finite half under this network: its vector or a weight is not")
            self._halves[start:stop] = half

    def __len__(self) -> int:
        """Number of jobs."""
        return len(self._halves)

    def top_k(self, states: Tensor, k: int, excluded: Sequence[Tensor] | None = None) -> TopK:
        """The k jobs of largest value for each applicant, of all jobs but the excluded ones.

        Args:
            states: float32 [B, Ds].
            k: jobs wanted, at least 1.
            excluded: for each applicant, rows never to be shown (applied to before), int64 [any number].

        Raises:
            InputError: k is below 1 or above the number of jobs left, a state has another size or is not finite, or
                an excluded row does not exist.
        """
        rows = self.checked(states, k, excluded)
        leaders = [_Leaders(k) for _ in states]
        for start, stop in self._spans(len(self)):
            actions, halves = self._candidates(slice(start, stop))
            for state, out, leader in zip(states, rows, leaders, strict=True):
                values = self._network.candidates(state[None], actions, halves)[0, : stop - start]
                if len(out):
                    values[out[(out >= start) & (out < stop)] - start] = -torch.inf
                leader.meet(values, start)
        return _stack(leaders)

    def rank(self, states: Tensor, jobs: Sequence[Tensor], k: int) -> TopK:
        """The best k of the jobs named for each applicant, with the very values ``top_k`` gives them.

        Args:
            states: float32 [B, Ds].
            jobs: for each applicant, distinct rows in ascending order, int64 [at least k].
            k: jobs wanted.
        """
        leaders = [_Leaders(k) for _ in states]
        for state, rows, leader in zip(states, jobs, leaders, strict=True):
            for start, stop in self._spans(len(rows)):
                actions, halves = self._candidates(rows[start:stop])
                leader.meet(self._network.candidates(state[None], actions, halves)[0, : stop - start], start)
            leader.jobs = rows[leader.jobs]
        return _stack(leaders)

    def checked(self, states: Tensor, k: int, excluded: Sequence[Tensor] | None) -> list[Tensor]:
        """The distinct excluded rows of each applicant; raises as ``top_k`` does."""
        if states.ndim != 2 or len(states) == 0 or states.shape[1] != self._state_size:
            raise InputError(f"states must be [B, {self._state_size}] with B at least 1, found {list(states.shape)}")
        if not states.isfinite().all():
            raise InputError("a state holds NaN or infinity: nothing can be ranked for it")
        if excluded is None:
            excluded = [torch.empty(0, dtype=torch.int64)] * len(states)
        if len(excluded) != len(states):
            raise InputError(f"{len(excluded)} lists of excluded jobs were given for {len(states)} applicants")
        if wrong_types := [out.dtype for out in excluded if out.dtype != torch.int64]:
            raise InputError(f"excluded jobs must be int64 rows, found {wrong_types[0]}")
        rows = [torch.unique(out) for out in excluded]
        unknown = torch.cat([out[(out < 0) | (out >= len(self))] for out in rows])
        if len(unknown):
            raise InputError(f"excluded job {int(unknown[0])} is no row of this catalogue of {len(self)} jobs")
        left = len(self) - max((len(out) for out in rows), default=0)
        if not 1 <= k <= left:
            raise InputError(f"k is {k}: it must be between 1 and the {left} jobs that are not excluded")
        return rows

    def _candidates(self, rows: slice | Tensor) -> tuple[Tensor, Tensor]:
        """One block of actions [1, block, Da] and halves [1, block, hidden]."""
        halves = self._filled(self._halves[rows].float())[None]
        return (halves if self._actions is None else self._filled(self._actions[rows])[None]), halves

    def _filled(self, rows: Tensor) -> Tensor:
        missing = self._block - len(rows)
        return F.pad(rows, (0, 0, 0, missing)) if missing else rows

    def _spans(self, rows: int) -> Iterator[tuple[int, int]]:
        return ((start, min(start + self._block, rows)) for start in range(0, rows, self._block))


class _Leaders:
    """The best k so far: jobs int64 [at most k], values float32 likewise, best first."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.jobs = torch.empty(0, dtype=torch.int64)
        self.values = torch.empty(0)

    def meet(self, values: Tensor, start: int) -> None:
        """Take in values [n] of the jobs start, start + 1, ..., all of them after those met before."""
        last = self.values[-1] if len(self.values) == self.k else -torch.inf
        ahead = torch.nonzero(values > last).squeeze(1)  # one that equals the last comes after it
        if len(ahead) == 0:
            return
        met = torch.cat([self.values, values[ahead]])
        order = torch.sort(met, descending=True, stable=True).indices[: self.k]  # stable: lower rows stay first
        self.values = met[order]
        self.jobs = torch.cat([self.jobs, ahead + start])[order]


def _stack(leaders: list[_Leaders]) -> TopK:
    if any(len(leader.jobs) < leader.k for leader in leaders):
        raise InputError("the network gives no finite values for an applicant: its weights are not usable")
    return TopK(torch.stack([leader.jobs for leader in leaders]), torch.stack([leader.values for leader in leaders]))
