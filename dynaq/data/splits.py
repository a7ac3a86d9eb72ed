"""Splits by a keyed hash of the id: whoever is held out stays held out when others come or go."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from dynaq.errors import InputError


def held_out(ids: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Which ids are held out, bool [len(ids)]: each with probability ``share``, by its own hash alone.

    Raises:
        InputError: nobody would be held out, or nobody left to train on.
    """
    key = str(seed).encode()
    hashes = [blake2b(each.encode(), digest_size=8, key=key, person=b"held_out").digest() for each in ids]
    chosen = np.array([int.from_bytes(digest) < share * 2**64 for digest in hashes], dtype=np.bool_)
    if not 0 < chosen.sum() < len(ids):
        raise InputError(
            f"split.held_out_share {share} holds out {chosen.sum()} of {len(ids)}, and both sides need at"
            " least one: change it or extract more"
        )
    return chosen
