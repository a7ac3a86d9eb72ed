"""Principal components: what sets rows of vectors apart, in few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BASIS_ROWS = 10_000  # rows looked at
_CHUNK = 65_536  # rows projected at a time


@dataclass(frozen=True)
class Components:
    """The first principal components of rows: mean [D], basis [D, count], and the scale that makes them of order 1."""

    mean: Tensor
    basis: Tensor
    scale: Tensor

    @classmethod
    def of(cls, rows: Tensor, count: int) -> Components:
        """Find them in (a sample of) rows [N, D]; fewer than ``count`` where there are fewer."""
        sample = rows[:: max(1, len(rows) // _BASIS_ROWS)]
        mean = sample.mean(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)  # of the range finder of Halko et al. 2011
            basis = torch.pca_lowrank(sample - mean, q=min(count, *sample.shape), center=False)[2]
        scale = ((sample - mean) @ basis).std(0, correction=0).mean().clamp(min=1e-6)
        return cls(mean, basis, scale)

    def __call__(self, rows: Tensor) -> Tensor:
        """Coordinates of rows: [N, D] -> [N, count]; some at a time, as a catalogue may not fit in memory."""
        return torch.cat([(some - self.mean) @ self.basis / self.scale for some in torch.split(rows, _CHUNK)])
