"""The agents of the learning table: variants of ours by configuration, controls, and two peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynaq.agents.controls.replay import ReplayAgent
from dynaq.agents.dyna_q import DynaQ
from dynaq.mdp.features import FeatureSpace


class Ungated(DynaQ):
    """Plans as textbooks do: at full rate from the first update, however poor the world model."""

    def _planning_steps(self) -> int:
        return self.config.planning.steps


class WorldModelAlone(DynaQ):
    """Recommends what the world model predicts; the network only comes along."""

    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        n = jobs.shape[1]
        return self.world_model.predict(applicants.repeat_interleave(n), jobs.flatten()).reward.reshape(-1, n)


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    Attributes:
        kind: class of the agent.
        warm: whether it is pre-trained on the cosine.
        inside: whether it has the cosine inside, so that "learning" it shows nothing.
        agent: knobs that differ.
    """

    kind: type[DynaQ] = DynaQ
    warm: bool = True
    inside: bool = False
    agent: dict[str, Any] = field(default_factory=dict)


_NONE = {"planning": {"steps": 0}, "gamma": 0.0}
CONTENDERS = {
    "scratch": Contender(warm=False, agent=_NONE),
    "hybrid, no planning": Contender(agent=_NONE),
    "hybrid + planning": Contender(agent={"gamma": 0.0, "planning": {"steps": 2}}),
    "hybrid + replay, equal compute": Contender(ReplayAgent, agent={"gamma": 0.0, "planning": {"steps": 2}}),
    "hybrid + 5 ungated": Contender(Ungated, agent={"gamma": 0.0, "planning": {"steps": 5}}),
    "scratch + planning": Contender(warm=False, agent={"gamma": 0.0, "planning": {"steps": 2}}),
    "scratch + replay": Contender(ReplayAgent, warm=False, agent={"gamma": 0.0, "planning": {"steps": 2}}),
    "world model alone": Contender(WorldModelAlone, agent=_NONE),
    "gamma .9": Contender(agent={**_NONE, "gamma": 0.9}),
    "gamma .9, centred": Contender(agent={**_NONE, "gamma": 0.9, "reward_centring": 0.01}),
    "gamma .9, closed form": Contender(agent={**_NONE, "gamma": 0.9, "target": "closed_form"}),
    "product": Contender(agent={**_NONE, "features": "product"}),
    "cosine feature": Contender(inside=True, agent={**_NONE, "features": "cosine"}),
    "residual": Contender(warm=False, inside=True, agent={**_NONE, "features": "residual"}),
}


class TwoTowers(nn.Module):
    """A peer: score = gain * mean cosine of (U s, V a) over the paired fields + shift, towers starting as identity."""

    def __init__(self, space: FeatureSpace) -> None:
        super().__init__()
        self.pairs, self.d = space.pairs, space.d
        self.applicant, self.job = nn.Linear(space.d, space.d), nn.Linear(space.d, space.d)
        for tower in (self.applicant, self.job):
            nn.init.eye_(tower.weight)
            nn.init.zeros_(tower.bias)
        self.gain, self.shift = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def _embedded(self, rows: Tensor, offsets: Sequence[int], tower: nn.Module) -> Tensor:
        fields = torch.stack([rows[:, k : k + self.d] for k in offsets], dim=1)
        return F.normalize(tower(fields), dim=2).flatten(1)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """Scores of all pairs: [N, Ds], [M, Da] -> [N, M]."""
        ours = self._embedded(states, [i for i, _ in self.pairs], self.applicant)
        theirs = self._embedded(actions, [j for _, j in self.pairs], self.job)
        return self.gain * ours @ theirs.T / len(self.pairs) + self.shift

    def of_pairs(self, states: Tensor, actions: Tensor) -> Tensor:
        """Scores of pairs: [B, Ds], [B, Da] -> [B]."""
        ours = self._embedded(states, [i for i, _ in self.pairs], self.applicant)
        theirs = self._embedded(actions, [j for _, j in self.pairs], self.job)
        return self.gain * (ours * theirs).sum(1) / len(self.pairs) + self.shift
