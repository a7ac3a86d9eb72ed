"""The networks: MLP([s, a]) -> one scalar, with the first layer split so that states and jobs are multiplied once.

W [s, a] = Ws s + Wa a. For B states x n candidates the plain network multiplies the first layer B*n times; split, it
takes B state halves and (at most) one half for each job of the catalogue, which a frozen target network keeps until
it is synchronised. The numbers are those of the plain network.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynaq.mdp.features import FeatureSpace


class PairNetwork(nn.Module):
    """Linear / ReLU / Dropout over an applicant's state and a job's vector, one scalar out.

    It serves as Q-network, target network and world model. With ``features='product'`` the first layer also sees
    the elementwise products of the paired fields, from which a similarity can be read off by a linear map. No
    similarity is computed for it.

    Args:
        space: gives the sizes and the field pairs.
        hidden: units of the hidden layers.
        dropout: share of hidden units dropped while training.
        features: 'concat' or 'product'.
    """

    def __init__(self, space: FeatureSpace, hidden: Sequence[int], dropout: float, features: str) -> None:
        super().__init__()
        self.state_size = space.states.shape[1]
        self.pairs = space.pairs if features == "product" else ()
        self.d = space.d
        inputs = self.state_size + space.actions.shape[1] + self.d * len(self.pairs)
        self.first = nn.Linear(inputs, hidden[0])
        layers: list[nn.Module] = [nn.ReLU(), nn.Dropout(dropout)]
        for wide, narrow in pairwise(hidden):
            layers += [nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(dropout)]
        self.rest = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        width = self.first.in_features - self.state_size - self.d * len(self.pairs)
        state, action, product = torch.split(
            self.first.weight, [self.state_size, width, self.d * len(self.pairs)], dim=1
        )
        return state, action, product

    def job_half(self, actions: Tensor) -> Tensor:
        """Wa a, the part of the first layer that knows no applicant: [M, Da] -> [M, hidden]."""
        return F.linear(actions, self._weights()[1])

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """Values of pairs: [B, Ds], [B, Da] -> [B]."""
        return self._finish(states, actions, self.job_half(actions))

    def candidates(self, states: Tensor, actions: Tensor, job_halves: Tensor) -> Tensor:
        """Values of candidates: [B, Ds], [B, n, Da] (read for products only), [B, n, hidden] -> [B, n]."""
        return self._finish(states[:, None], actions, job_halves)

    def _finish(self, states: Tensor, actions: Tensor, job_halves: Tensor) -> Tensor:
        weight_s, _, weight_p = self._weights()
        first = F.linear(states, weight_s, self.first.bias) + job_halves
        for k, (i, j) in enumerate(self.pairs):
            d = self.d
            product = states[..., i : i + d] * actions[..., j : j + d]
            first = first + F.linear(product, weight_p[:, k * d : (k + 1) * d])
        values: Tensor = self.rest(first)
        return values.squeeze(-1)
