"""A dial from 0 to 1: how far the market's utilities agree with a reward that agents were trained on.

The hidden utilities are first made uncorrelated with every training reward at once (least squares over the panel's
pairs); what is left is mixed with one of them:

    u = agreement * z(reward) + sqrt(1 - agreement^2) * z(hidden, less what the rewards explain linearly)

so that the agreement is the correlation of utility and reward over the panel, exactly. At 1 the market wants what
the reward says; at 0 no training reward says anything about it, as far as a line can tell. The market never computes
a reward: it is given one as numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynaq.errors import InputError

Floats = NDArray[np.float32]


def dialled(hidden: Floats, rewards: Mapping[str, Floats], towards: str, agreement: float) -> Floats:
    """Utilities that agree with a reward as far as asked.

    Args:
        hidden: [A, J].
        rewards: every training reward of the same pairs, by name, each [A, J].
        towards: name of the one to agree with.
        agreement: in [0, 1].

    Returns:
        float32 [A, J], mean 0, variance 1.

    Raises:
        InputError: no such reward, an agreement out of range, or values that are not finite or all the same.
    """
    if towards not in rewards:
        raise InputError(f"the dial names the reward {towards!r}: choose from {', '.join(rewards)}")
    if not 0 <= agreement <= 1:
        raise InputError(f"the dial is at {agreement:g}, it must be 0 to 1")
    columns = [np.ones(hidden.shape), *(standardised(f"reward {name}", each) for name, each in rewards.items())]
    rest = standardised("hidden utilities", hidden)
    # The normal equations by plain sums: matrix libraries round as they have threads, and reports must not.
    gram = np.array([[(left * right).sum() for right in columns] for left in columns])
    line = np.linalg.lstsq(gram, np.array([(column * rest).sum() for column in columns]), rcond=1e-9)[0]
    for weight, column in zip(line, columns, strict=True):
        rest = rest - weight * column
    rest = standardised("what the rewards leave of the hidden utilities", rest)
    wanted = standardised(f"reward {towards}", rewards[towards])
    return np.asarray(agreement * wanted + np.sqrt(1 - agreement**2) * rest, dtype=np.float32)


def agreement(utilities: Floats, reward: Floats) -> float:
    """Correlation of utility and reward over the pairs, both [A, J]."""
    return float((standardised("utilities", utilities) * standardised("reward", reward)).mean())


def standardised(what: str, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Mean 0 and variance 1.

    Raises:
        InputError: a value is not finite, or all are the same.
    """
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all() or wide.std() < 1e-9:
        raise InputError(f"{what}: values must be finite and not all the same")
    return np.asarray((wide - wide.mean()) / wide.std())
