"""Randomness without a state: every draw is a hash of what it is for.

Agents compared in one market must meet the same luck, whatever each of them did before. A generator that is
advanced cannot give that; a counter-based one can (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3"). The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood 2014), one round for
each counter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri


def identity_keys(identities: Sequence[str]) -> NDArray[np.uint64]:
    """Hash ids to uint64 [len(identities)], so that a draw follows an id and not its row in a snapshot."""
    digests = b"".join(hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in identities)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def bits(*counters: ArrayLike) -> NDArray[np.uint64]:
    """Hash counters, broadcast against each other, to uint64 of their common shape (at least [1]).

    Args:
        counters: non-negative integers; their order matters.
    """
    state = np.zeros(1, dtype=np.uint64)
    for counter in counters:
        state = _mix(state ^ np.asarray(counter, dtype=np.uint64))
    return state


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # Arrays of uint64 wrap around silently, as is meant; numpy scalars would warn, hence the one dimension.
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniforms(*counters: ArrayLike) -> NDArray[np.float64]:
    """Uniform draws in the open interval (0, 1), one for each combination of counters (shape as `bits`)."""
    return ((bits(*counters) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normals(*counters: ArrayLike) -> NDArray[np.float64]:
    """Standard normal draws, one for each combination of counters (shape as `bits`)."""
    normal: NDArray[np.float64] = ndtri(uniforms(*counters))
    return normal
