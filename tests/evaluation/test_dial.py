"""The dial: the agreement asked for is the correlation there is."""

from __future__ import annotations

import numpy as np
import pytest

from dynaq.errors import InputError
from dynaq.evaluation.market.dial import agreement, dialled

CHANCE = np.random.default_rng(0)
COSINE = CHANCE.normal(size=(40, 70)).astype(np.float32)
LLM = (0.6 * COSINE + CHANCE.normal(size=COSINE.shape)).astype(np.float32)
HIDDEN = (0.5 * COSINE + 0.3 * LLM + CHANCE.normal(size=COSINE.shape)).astype(np.float32)
REWARDS = {"cosine": 3 * COSINE + 1, "llm": LLM}


@pytest.mark.parametrize("towards", ["cosine", "llm"])
@pytest.mark.parametrize("level", [0.0, 0.25, 0.5, 1.0])
def test_the_correlation_is_the_one_asked_for(towards: str, level: float) -> None:
    utilities = dialled(HIDDEN, REWARDS, towards, level)
    assert (utilities.mean(), utilities.std()) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-5))
    assert agreement(utilities, REWARDS[towards]) == pytest.approx(level, abs=1e-4)
    other = "llm" if towards == "cosine" else "cosine"
    between = np.corrcoef(COSINE.ravel(), LLM.ravel())[0, 1]
    assert agreement(utilities, REWARDS[other]) == pytest.approx(level * between, abs=1e-4)


def test_what_the_rewards_do_not_say_is_kept() -> None:
    assert agreement(dialled(HIDDEN, REWARDS, "cosine", 0.0), HIDDEN) > 0.7
    assert np.array_equal(dialled(HIDDEN, REWARDS, "cosine", 0.0), dialled(HIDDEN, REWARDS, "llm", 0.0))


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="names the reward 'views': choose from cosine, llm"):
        dialled(HIDDEN, REWARDS, "views", 0.5)
    with pytest.raises(InputError, match=r"dial is at 1\.5"):
        dialled(HIDDEN, REWARDS, "cosine", 1.5)
    with pytest.raises(InputError, match="what the rewards leave of the hidden utilities"):
        dialled(2 * COSINE, {"cosine": COSINE}, "cosine", 0.5)
