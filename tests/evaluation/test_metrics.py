"""Figures of a comparison, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dynaq.errors import InputError
from dynaq.evaluation.study.metrics import estimate, learning_curve, time_to_threshold

REWARDS = np.array([[0.0, 0.2, 0.4, 0.6, 0.8, 0.8], [0.0, 0.1, 0.0, 0.1, 0.0, 0.1]])
RANDOM = np.full((2, 6), 0.1)
OPTIMUM = np.full((2, 6), 0.9)


def times(rewards: np.ndarray = REWARDS, window: int = 2, share: float = 0.5) -> tuple[int | None, ...]:
    return time_to_threshold(rewards, RANDOM, OPTIMUM, window=window, share=share)


def test_time_to_threshold_is_the_first_step_from_which_it_is_held() -> None:
    # Threshold 0.1 + 0.5 x 0.8 = 0.5; trailing means of two steps: 0, 0.1, 0.3, 0.5, 0.7, 0.8 at steps 1 to 6.
    assert times() == (4, None)
    assert times(share=0.0) == (2, None)
    assert times(window=1) == (4, None)
    assert times(REWARDS + 0.5) == (1, 1)  # whoever begins above it


def test_a_threshold_that_is_touched_but_not_held_is_not_reached() -> None:
    rewards = np.array([[0.0, 0.2, 0.8, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    # Trailing means 0, 0.1, 0.5, 0.4, ...; and 0.5 at the last step, after which nobody can tell whether it is held.
    assert times(rewards) == (None, None)
    assert times(rewards, window=1) == (3, 6)


def test_threshold_follows_the_references_of_each_step() -> None:
    optimum = OPTIMUM.copy()
    optimum[0, 4:] = 1.9  # richer candidates later: the threshold rises to 1.0
    optimum[0, 1:3] = 0.3  # little to be had early: the threshold is 0.2 there
    # Trailing means 0, .1, .3, .5, .7, .8 against .5, .35, .2, .35, .75, 1.0.
    assert time_to_threshold(REWARDS, RANDOM, optimum, window=2, share=0.5) == (3, None)


def test_rounding_does_not_decide_whether_a_threshold_is_reached() -> None:
    flat = [np.full((1, 9), level) for level in (0.3, 0.1, 0.5)]
    assert time_to_threshold(*flat, window=3, share=0.5) == (1,)


def test_interval_is_students_t() -> None:
    # Mean 2, standard deviation 1, n = 3, t(0.975, 2) = 4.302653: half width 4.302653 / sqrt(3).
    three = estimate([1.0, 2.0, 3.0])
    assert three.mean == 2
    assert three.high - three.mean == pytest.approx(4.302653 / np.sqrt(3), abs=1e-6)
    assert three.mean - three.low == pytest.approx(three.high - three.mean)
    assert estimate([0.5, 0.5]) == estimate([0.5, 0.5, 0.5])  # no spread, no width


def test_learning_curve_averages_what_there_is_so_far() -> None:
    curve = learning_curve(REWARDS, window=3)
    assert curve.steps.tolist() == [1, 2, 3, 4, 5, 6]
    trailing = np.array([[0.0, 0.1, 0.2, 0.4, 0.6, 2.2 / 3], [0.0, 0.05, 0.1 / 3, 0.2 / 3, 0.1 / 3, 0.2 / 3]])
    assert curve.mean == pytest.approx(trailing.mean(axis=0))
    assert curve.high[3] == pytest.approx(estimate(trailing[:, 3]).high)
    assert curve.low[3] == pytest.approx(estimate(trailing[:, 3]).low)


@pytest.mark.parametrize("window", [1, 6, 7, 100])
def test_learning_curve_takes_any_window(window: int) -> None:
    expected = REWARDS[:, -min(window, 6) :].mean()
    assert learning_curve(REWARDS, window).mean[-1] == pytest.approx(expected)


def test_one_seed_has_a_curve_but_no_band() -> None:
    curve = learning_curve(REWARDS[:1], window=1)
    assert curve.mean == pytest.approx(REWARDS[0])
    assert np.isnan(curve.low).all()
    assert np.isnan(curve.high).all()


def test_bad_input_is_named() -> None:
    holed = REWARDS.copy()
    holed[1, 2] = np.nan
    with pytest.raises(InputError, match="rewards holds nan at seed row 1, step 3"):
        times(holed)
    with pytest.raises(InputError, match=r"random is \[2, 6\], but rewards is \[1, 6\]"):
        times(REWARDS[:1])
    with pytest.raises(InputError, match=r"rewards is \[6\], it must be \[seeds, steps\]"):
        times(REWARDS[0])
    with pytest.raises(InputError, match=r"optimum 0\.1 lies below random 0\.9 on average"):
        time_to_threshold(REWARDS, OPTIMUM, RANDOM, window=2, share=0.5)
    with pytest.raises(InputError, match="window is 7, it must be 1 to the number of steps, 6"):
        times(window=7)
    with pytest.raises(InputError, match=r"share is 1\.5, it must be 0 to 1"):
        times(share=1.5)
    with pytest.raises(InputError, match="at least 2 seeds"):
        estimate([1.0])
    with pytest.raises(InputError, match="holds nan"):
        estimate([1.0, np.nan])
    with pytest.raises(InputError, match="window is 0"):
        learning_curve(REWARDS, 0)
