"""The networks: MLP([s, a]) -> one scalar, with the first layer split so that states and jobs are multiplied once.

W [s, a] = Ws s + Wa a. For B states x n candidates the plain network multiplies the first layer B*n times; split, it
takes B state halves and (at most) one half for each job of the catalogue, which a frozen target network keeps until
it is synchronised. The numbers are those of the plain network, which is what learns: for pairs there is nothing to
share, and the gradient of a split weight would have to be put together again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynaq.mdp.features import FeatureSpace

_SPREAD = 4.0  # cosines of sentence vectors vary by about a quarter: this brings them to order 1, as inputs should be


class PairNetwork(nn.Module):
    """Linear / ReLU / Dropout over an applicant's state and a job's vector, one scalar out.

    What it sees besides the two vectors is its ``features``:

    - ``concat``: nothing.
    - ``product``: the elementwise products of the paired fields, from which a linear map reads off a similarity.
    - ``cosine``: the cosine of each pair of fields.
    - ``residual``: nothing, but its value is the mean cosine of the pairs plus the network's correction, which is
      zero at the start. ``gain`` carries the cosine to the scale of another reward.

    The last two have the cosine inside: that they "learn" it shows nothing.

    Args:
        space: gives the sizes and the field pairs.
        hidden: units of the hidden layers.
        dropout: share of hidden units dropped while training.
        features: see above.
        history: width of what a history adds to the state's vector.
    """

    def __init__(
        self, space: FeatureSpace, hidden: Sequence[int], dropout: float, features: str, history: int = 0
    ) -> None:
        super().__init__()
        self.features = features
        self.d = space.d
        self.pairs = space.pairs if features != "concat" else ()
        extra = {"product": self.d * len(self.pairs), "cosine": len(self.pairs)}.get(features, 0)
        self.state_size = space.states.shape[1] + history
        self.sizes = [self.state_size, space.actions.shape[1], extra]
        self.first = nn.Linear(sum(self.sizes), hidden[0])
        activation: list[nn.Module] = [nn.ReLU(inplace=True)]  # in place: half the memory traffic of a block
        if dropout:
            activation.append(nn.Dropout(dropout))
        layers = list(activation)
        for wide, narrow in pairwise(hidden):
            layers += [nn.Linear(wide, narrow), *activation]
        self.last = nn.Linear(hidden[-1], 1)
        self.middle = nn.Sequential(*layers)
        if features == "residual":
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)
            self.gain = nn.Parameter(torch.ones(()))

    def state_half(self, states: Tensor) -> Tensor:
        """Ws s + bias, the part of the first layer that knows no job: [B, Ds] -> [B, hidden]."""
        return F.linear(states, self.first.weight[:, : self.sizes[0]], self.first.bias)

    def job_half(self, actions: Tensor) -> Tensor:
        """Wa a, the part of the first layer that knows no applicant: [M, Da] -> [M, hidden]."""
        return F.linear(actions, self.first.weight[:, self.sizes[0] : sum(self.sizes[:2])])

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """Values of pairs: [B, Ds], [B, Da] -> [B]."""
        first = self.first(torch.cat([states, actions, *self._extras(states, actions)], dim=1))
        return self._finish(first, states, actions)

    def candidates(self, states: Tensor, actions: Tensor, job_halves: Tensor) -> Tensor:
        """Values of candidates: [B, Ds], [B, n, Da] (not read by concat), [B, n, hidden] -> [B, n]."""
        return self.behind_halves(states, actions, self.state_half(states)[:, None] + job_halves)

    def behind_halves(self, states: Tensor, actions: Tensor, first: Tensor) -> Tensor:
        """As ``candidates``, from the sum of both halves [B, n, hidden], which is overwritten."""
        states = states[:, None]
        start = sum(self.sizes[:2])
        for extra in self._extras(states, actions):
            stop = start + extra.shape[-1]
            first = first + F.linear(extra, self.first.weight[:, start:stop])
            start = stop
        return self._finish(first, states, actions)

    def _finish(self, first: Tensor, states: Tensor, actions: Tensor) -> Tensor:
        """Everything behind the first layer, whose output is overwritten: [..., hidden] -> [...]."""
        values: Tensor = self.last(self.middle(first)).squeeze(-1)
        if self.features == "residual":
            values = values + self.gain * self._cosines(states, actions).mean(-1)
        return values

    def _extras(self, states: Tensor, actions: Tensor) -> Iterator[Tensor]:
        """What the first layer sees besides the two vectors."""
        if self.features == "product":
            yield from (s * a for s, a in self._fields(states, actions))
        elif self.features == "cosine":
            yield _SPREAD * self._cosines(states, actions)

    def _fields(self, states: Tensor, actions: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(states[..., i : i + self.d], actions[..., j : j + self.d]) for i, j in self.pairs]

    def _cosines(self, states: Tensor, actions: Tensor) -> Tensor:
        """Cosine of each pair of fields, whose vectors have length sqrt(d): [..., number of pairs]."""
        return torch.stack([(s * a).sum(-1) / self.d for s, a in self._fields(states, actions)], dim=-1)

    @torch.no_grad()
    def rescale(self, slope: float, shift: float) -> None:
        """Turn the values q into slope * q + shift, exactly, through the last layer."""
        self.last.weight.mul_(slope)
        self.last.bias.mul_(slope).add_(shift)
        if self.features == "residual":
            self.gain.mul_(slope)
