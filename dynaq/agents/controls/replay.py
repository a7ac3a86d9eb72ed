"""The agent without planning at matched updates: where it would imagine, it replays."""

from __future__ import annotations

import torch

from dynaq.agents.batch import Batch
from dynaq.agents.dyna_q import DynaQ


class ReplayAgent(DynaQ):
    """As many extra updates as planning would take, at the same times, on the same answers again."""

    def _imagined(self) -> Batch:
        transitions = self.replay.sample(self.config.batch_size, self.generator)
        return Batch(
            transitions, self._history_before(self.replay, transitions.slots), torch.ones(len(transitions.jobs))
        )
