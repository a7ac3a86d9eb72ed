"""The Q-network: a pair network, and the encoder of the history if the state remembers."""

from __future__ import annotations

import torch
from torch import Tensor

from dynaq.agents.network import PairNetwork
from dynaq.agents.sasrec import SASRec
from dynaq.config import AgentConfig
from dynaq.mdp.features import FeatureSpace
from dynaq.mdp.history import History


class QNetwork(PairNetwork):
    """A pair network with the state it reads: the applicant's vector, and the history if the state remembers."""

    def __init__(self, space: FeatureSpace, config: AgentConfig) -> None:
        remembers = config.history
        super().__init__(space, config.hidden, config.dropout, config.features, remembers.width if remembers else 0)
        self.encoder = (
            SASRec(space.actions.shape[1], remembers.width, remembers.blocks, remembers.heads, remembers.length)
            if remembers
            else None
        )

    def states(self, space: FeatureSpace, applicants: Tensor, history: History | None) -> Tensor:
        """States of applicants: int64 [B] -> float32 [B, Ds]."""
        vectors = space.states.index_select(0, applicants)
        if self.encoder is None or history is None:
            return vectors
        return torch.cat([vectors, self.encoder(space.actions, history)], dim=1)
