"""The value of the next state: the best among its candidates under a network that stands still.

Half of what a Bellman target costs would be waste: the target network does not move between synchronisations, and
with s' = s an applicant's next state is always the same. So the candidates of a next state are drawn once for each
applicant and synchronisation, and their largest value is remembered until the next one. Exact, and better than fresh
candidates for each transition: all targets of an applicant share one draw, which moves them together and leaves
the order of jobs alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dynaq.agents.network import PairNetwork
from dynaq.agents.targets import best_value
from dynaq.mdp.candidates import CandidateSampler, mix
from dynaq.mdp.features import FeatureSpace

_BLOCK_ROWS = 800  # candidates valued at once: their hidden layer stays in the cache
_WHOLE = 200_000  # jobs; of more, fewer are candidates between two synchronisations than there are
_TILE = 8  # states valued at once where it must not show: whole tiles of the matrix product, whatever their candidates


class FrozenNetwork:
    """A network between two synchronisations: its job halves are computed once for the whole catalogue, if that pays.

    Args:
        network: stands still for as long as this object lives.
        space: vectors of the catalogue.
        lasting: whether it lives long enough for that to pay; else halves are computed as they are needed.
    """

    def __init__(self, network: PairNetwork, space: FeatureSpace, lasting: bool) -> None:
        self._network = network
        self._actions = space.actions
        self._halves: Tensor | None = None
        self._lasting = lasting

    @torch.no_grad()
    def values(self, states: Tensor, jobs: Tensor) -> Tensor:
        """Values of candidates, a block of states at a time: [B, Ds], int64 [B, n] -> float32 [B, n]."""
        if not self._lasting or self._is_large:
            return fresh_values(self._network, states, jobs, self._actions)
        halves = self._network.state_half(states)
        return block_values(self._network, states, halves, jobs, self._job_halves(), self._actions)

    @torch.no_grad()
    def each(self, states: Tensor, jobs: Tensor) -> Tensor:
        """As ``values``, but the same for a state whoever is asked for beside it, unless nothing lasts. float32 [B, n]

        Matrix libraries round by the shape they are given, so every block has the same: the last one is filled up.
        """
        if not self._lasting:
            return self.values(states, jobs)
        filling = (0, 0, 0, -len(states) % _TILE)
        filled, shown = F.pad(states, filling), F.pad(jobs, filling)
        if self._is_large:
            tiles = zip(torch.split(filled, _TILE), torch.split(shown, _TILE), strict=True)
            return torch.cat([self._tile(*tile) for tile in tiles])[: len(states)]
        halves = torch.cat([self._network.state_half(tile) for tile in torch.split(filled, _TILE)])
        values = block_values(self._network, filled, halves, shown, self._job_halves(), self._actions, block=_TILE)
        return values[: len(states)]

    def _tile(self, states: Tensor, jobs: Tensor) -> Tensor:
        """Values of a tile's candidates, all of whose halves are computed: [8, Ds], int64 [8, n] -> [8, n]."""
        actions = _rows_of(self._actions, jobs)
        first = self._network.job_half(actions).add_(self._network.state_half(states)[:, None])
        return self._network.behind_halves(states, actions, first)

    @property
    def _is_large(self) -> bool:
        return len(self._actions) > _WHOLE

    def _job_halves(self) -> Tensor:
        if self._halves is None:
            self._halves = self._network.job_half(self._actions)
        return self._halves


def fresh_values(network: PairNetwork, states: Tensor, jobs: Tensor, actions: Tensor) -> Tensor:
    """Values of candidates under a network whose job halves are not known: [B, Ds], int64 [B, n] -> [B, n]."""
    distinct, position = torch.unique(jobs, return_inverse=True)
    shown = actions.index_select(0, distinct)
    return block_values(network, states, network.state_half(states), position, network.job_half(shown), shown)


def block_values(
    network: PairNetwork,
    states: Tensor,
    state_halves: Tensor,
    jobs: Tensor,
    job_halves: Tensor,
    actions: Tensor,
    block: int | None = None,
) -> Tensor:
    """Values of candidates under halves already known, a block of states at a time.

    Args:
        network: any, in evaluation mode.
        states: float32 [B, Ds].
        state_halves: float32 [B, hidden].
        jobs: int64 [B, n], rows of job_halves and actions.
        job_halves: float32 [M, hidden].
        actions: float32 [M, Da].
        block: states at once; None for as many as the cache holds.

    Returns:
        float32 [B, n]
    """
    block = block or max(1, _BLOCK_ROWS // jobs.shape[1])
    values = []
    for state, half, shown in zip(*(torch.split(t, block) for t in (states, state_halves, jobs)), strict=True):
        first = _rows_of(job_halves, shown).add_(half[:, None])
        # The actions themselves are gathered only for a network that multiplies them with the state.
        values.append(network.behind_halves(state, _rows_of(actions, shown) if network.pairs else first, first))
    return torch.cat(values) if values else torch.empty(jobs.shape)


def _rows_of(table: Tensor, rows: Tensor) -> Tensor:
    """As table[rows], [M, D] at int64 [B, n] -> [B, n, D], up to three times faster."""
    return table.index_select(0, rows.flatten()).view(*rows.shape, table.shape[1])


class RememberedMaxima:
    """The value of each applicant's next state where s' = s, computed when first asked for.

    Args:
        frozen: the target network since its synchronisation.
        space: vectors of applicants.
        sampler: draws candidate sets.
        epoch: number of the synchronisation: each has its own candidates.
    """

    def __init__(self, frozen: FrozenNetwork, space: FeatureSpace, sampler: CandidateSampler, epoch: int) -> None:
        self._frozen = frozen
        self._states = space.states
        self._sampler = sampler
        self._epoch = epoch
        self._maxima = torch.full((len(space.states),), torch.nan)

    def candidates(self, applicants: Tensor) -> Tensor:
        """The next candidates of applicants until the next synchronisation: int64 [B] -> [B, n]."""
        return self._sampler.draw(mix(applicants + mix(torch.tensor(self._epoch))))

    def __call__(self, applicants: Tensor) -> Tensor:
        """Values of the next states: int64 [B] -> float32 [B]."""
        maxima = self._maxima[applicants]
        unknown = torch.isnan(maxima)
        if unknown.any():
            missing = torch.unique(applicants[unknown])
            self._maxima[missing] = self.recomputed(missing)
            maxima = self._maxima[applicants]
        return maxima

    def recomputed(self, applicants: Tensor) -> Tensor:
        """The same, without looking at what is remembered."""
        return best_value(self._frozen.each(self._states[applicants], self.candidates(applicants)))
