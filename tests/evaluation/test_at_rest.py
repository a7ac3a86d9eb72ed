"""What an arm knows is asked apart from what it earns: whoever has used up good jobs knows them all the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dynaq.errors import InputError
from dynaq.evaluation.market.environment import OnlineEnvironment
from tests.evaluation.test_online_market import APPLICANTS, JOBS, UTILITIES, market

STEPS, N = 30, 20
NOISY = UTILITIES + np.random.default_rng(1).normal(0, 7, UTILITIES.shape).astype(np.float32)


class Believer:
    """Scores pairs by a matrix, rows of applicants and columns of jobs as they are."""

    def __init__(self, beliefs: np.ndarray) -> None:
        self._beliefs = torch.from_numpy(beliefs)

    def scores(self, applicants: Tensor, jobs: Tensor) -> Tensor:
        return self._beliefs[applicants[:, None], jobs]


def record(beliefs: np.ndarray, shows: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Of an arm that believes one thing and shows by it, or by another until the end."""
    environment = OnlineEnvironment(market(), np.arange(APPLICANTS), np.arange(JOBS), N, slate=1)
    environment.asked = Believer(beliefs)
    acting = Believer(beliefs if shows is None else shows)
    for step in range(STEPS):
        seen = environment.observe(step)
        first = acting.scores(seen.applicants, seen.candidates).argmax(dim=1, keepdim=True)
        environment.rewards(step, seen.applicants, seen.candidates.gather(1, first).flatten())
    return environment.record()


def test_the_same_beliefs_know_as_much_whoever_has_used_up_what() -> None:
    greedy, harmless = record(NOISY), record(NOISY, shows=-UTILITIES)
    assert greedy["rewards"].sum() > 5 * harmless["rewards"].sum()
    for name in ("knows", "knows_random", "knows_best"):
        assert np.array_equal(greedy[name], harmless[name])
    late = slice(-8, None)  # beside the best that it has left itself, it would seem to know less
    left, known = (
        float(greedy[a][late].sum() / greedy[b][late].sum()) for a, b in (("chances", "best"), ("knows", "knows_best"))
    )
    assert left < known - 0.05


def test_the_market_itself_knows_the_best_and_noise_knows_nothing() -> None:
    best, noise = record(UTILITIES), record(np.random.default_rng(2).random(UTILITIES.shape).astype(np.float32))
    assert np.array_equal(best["knows"], best["knows_best"])
    assert noise["knows"].mean() == pytest.approx(noise["knows_random"].mean(), rel=0.1)
    assert best["knows_random"].mean() == pytest.approx(market().base_chances().mean(), rel=0.05)


def test_a_diverged_arm_is_refused() -> None:
    with pytest.raises(InputError, match="training has diverged"):
        record(np.full_like(UTILITIES, np.nan), shows=UTILITIES)
