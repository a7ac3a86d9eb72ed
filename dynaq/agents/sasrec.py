"""SASRec: self-attention over the jobs shown and their answers (Kang & McAuley 2018), a state that has a memory.

Departures from the paper: an item is a linear projection of the job's vector, not a row of a table, so that jobs
never shown before have an embedding; the answer is part of the item; positions count from the newest; blocks are
pre-norm, and the scale after the last begins at zero; as only the state after the newest answer is asked for, the
last block computes no other; nothing is dropped out while training, whatever ``agent.dropout`` says of the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynaq.errors import InputError
from dynaq.mdp.history import History


class SASRec(nn.Module):
    """Encodes a history as a vector; an empty one as exactly zero, as if there were no encoder.

    Args:
        job_width: size of a job's vector.
        width: size of the encoding.
        blocks: self-attention blocks.
        heads: attention heads, a divisor of the width.
        length: longest history it can read.

    Raises:
        InputError: heads do not divide the width.
    """

    def __init__(self, job_width: int, width: int, blocks: int, heads: int, length: int) -> None:
        super().__init__()
        if width % heads:
            raise InputError(f"SASRec has {heads} heads, which do not divide its width of {width}")
        self.length = length
        self.job = nn.Linear(job_width, width)
        self.answer = nn.Linear(1, width, bias=False)
        self.position = nn.Embedding(length, width)
        nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        # A new memory says nothing, and the network begins as the one without it: where history does not matter, its
        # initial noise would have to be unlearned first. The scale learns from the first update, the rest follows.
        nn.init.zeros_(self.norm.weight)

    def project(self, actions: Tensor) -> Tensor:
        """The part of the items that knows no history: [M, Da] -> [M, width]."""
        projected: Tensor = self.job(actions)
        return projected

    def forward(self, actions: Tensor, history: History) -> Tensor:
        """Encode histories, projecting each job that occurs in them once.

        Args:
            actions: float32 [M, Da], vectors of the catalogue.
            history: of [B, L], L at most ``length``.

        Returns:
            float32 [B, width].

        Raises:
            InputError: the history is longer than ``length``.
        """
        distinct, place = torch.unique(history.jobs.clamp(min=0), return_inverse=True)
        renamed = History(place.where(history.shown, -1), history.answers)
        return self.encode(self.project(actions[distinct]), renamed)

    def encode(self, projected: Tensor, history: History) -> Tensor:
        """Encode histories of jobs already projected: [M, width], [B, L] -> [B, width]; see `forward`."""
        length = history.jobs.shape[1]
        if length > self.length:
            raise InputError(f"a history has {length} places, this SASRec reads {self.length} at most")
        shown = history.shown
        answers = history.answers.where(shown, 0.0)[..., None]
        x = F.embedding(history.jobs.clamp(min=0), projected) + self.answer(answers)
        x = x + self.position.weight[:length].flip(0)
        # Each place sees what was shown up to itself; a padded one sees itself, because nothing at all is NaN.
        visible = torch.ones(length, length, dtype=torch.bool).tril() & shown[:, None]
        hidden = ~(visible | torch.eye(length, dtype=torch.bool))
        for block in self.blocks[:-1]:
            x = block(x, x, hidden)
        newest = self.blocks[-1](x[:, -1:], x, hidden[:, -1:])
        encoded: Tensor = self.norm(newest.squeeze(1))
        return encoded * shown[:, -1:]


class _Block(nn.Module):
    """Pre-norm attention and a feed-forward layer, each with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, asking: Tensor, x: Tensor, hidden: Tensor) -> Tensor:
        """Places that ask [B, Q, width], all places [B, L, width], bool [B, Q, L] -> [B, Q, width]."""
        every = self.norm(x)
        mask = hidden.repeat_interleave(self.heads, dim=0)
        heard, _ = self.attention(self.norm(asking), every, every, attn_mask=mask, need_weights=False)
        asking = asking + heard
        out: Tensor = asking + self.feed_forward(asking)
        return out
