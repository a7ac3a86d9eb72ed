"""Figures of a comparison, against values worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dynaq.errors import InputError
from dynaq.evaluation.metrics import ArmMetrics, estimate, learning_curve, measure, paired_difference

REWARDS = np.array([[0.0, 0.2, 0.4, 0.6, 0.8, 0.8], [0.0, 0.1, 0.0, 0.1, 0.0, 0.1]])
RANDOM = np.full((2, 6), 0.1)
OPTIMUM = np.full((2, 6), 0.9)
SETTINGS: dict[str, Any] = {"jump_steps": 2, "window": 2, "threshold_share": 0.5, "late_share": 0.5}


def arm(rewards: np.ndarray = REWARDS, **changes: Any) -> ArmMetrics:
    return measure(rewards, RANDOM, OPTIMUM, **{**SETTINGS, **changes})


def test_figures_of_an_arm() -> None:
    figures = arm()
    assert figures.cumulative_reward == pytest.approx([2.8, 0.3])
    assert figures.average_reward == pytest.approx([2.8 / 6, 0.05])
    assert figures.jump_start == pytest.approx([0.1, 0.05])
    assert figures.late_performance == pytest.approx([2.2 / 3, 0.2 / 3])


def test_time_to_threshold_is_the_first_full_window_that_reaches_it() -> None:
    # Threshold 0.1 + 0.5 x 0.8 = 0.5; trailing means of two steps: 0.1, 0.3, 0.5, ... at steps 2, 3, 4.
    figures = arm()
    assert figures.time_to_threshold == (4, None)
    assert figures.reached_share == 0.5
    assert figures.median_time is None  # one of two is censored: the median is not known
    assert arm(threshold_share=0.0).time_to_threshold == (2, None)  # never before the window is full
    assert arm(window=1).time_to_threshold == (4, None)


def test_threshold_follows_the_references_of_each_step() -> None:
    optimum = OPTIMUM.copy()
    optimum[0, 4:] = 1.9  # richer candidates later: the threshold rises to 1.0
    optimum[0, :2] = 0.1  # nothing to be had early: the threshold is random itself
    assert measure(REWARDS, RANDOM, optimum, **SETTINGS).time_to_threshold == (2, None)


def test_rounding_does_not_decide_whether_a_threshold_is_reached() -> None:
    reached = measure(np.full((1, 9), 0.3), np.full((1, 9), 0.1), np.full((1, 9), 0.5), **{**SETTINGS, "window": 3})
    assert reached.time_to_threshold == (3,)


def test_median_time_counts_the_censored_as_late() -> None:
    values = np.zeros(1)
    times = ArmMetrics(values, values, values, values, (3, None, 5), horizon=6)
    assert times.median_time == 5
    assert ArmMetrics(values, values, values, values, (3, 4), horizon=6).median_time == 3.5


def test_late_share_is_rounded_up() -> None:
    assert arm(late_share=0.01).late_performance == pytest.approx([0.8, 0.1])
    assert arm(late_share=1.0).late_performance == pytest.approx(arm().average_reward)


def test_interval_is_students_t() -> None:
    # Mean 2, standard deviation 1, n = 3, t(0.975, 2) = 4.302653: half width 4.302653 / sqrt(3).
    three = estimate([1.0, 2.0, 3.0])
    assert three.mean == 2
    assert three.high - three.mean == pytest.approx(4.302653 / np.sqrt(3), abs=1e-6)
    assert three.mean - three.low == pytest.approx(three.high - three.mean)
    assert estimate([0.5, 0.5]) == estimate([0.5, 0.5, 0.5])  # no spread, no width


def test_pairing_takes_out_what_the_seeds_share() -> None:
    market = np.array([0.1, 0.5, 0.9])
    difference = paired_difference(market + np.array([0.09, 0.10, 0.11]), market)
    assert difference.mean == pytest.approx(0.1)
    assert difference.high - difference.mean == pytest.approx(0.01 * 4.302653 / np.sqrt(3), abs=1e-6)


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
        arm(holed)
    with pytest.raises(InputError, match=r"random is \[2, 6\], but rewards is \[1, 6\]"):
        arm(REWARDS[:1])
    with pytest.raises(InputError, match=r"rewards is \[6\], it must be \[seeds, steps\]"):
        arm(REWARDS[0])
    with pytest.raises(InputError, match=r"optimum 0\.1 lies below random 0\.9 at seed row 0, step 1"):
        measure(REWARDS, OPTIMUM, RANDOM, **SETTINGS)
    for setting, value in (("window", 7), ("jump_steps", 0), ("threshold_share", 1.5), ("late_share", 0.0)):
        with pytest.raises(InputError, match=f"{setting} is {value:g}, it must be"):
            arm(**{setting: value})
    with pytest.raises(InputError, match="at least 2 seeds"):
        estimate([1.0])
    with pytest.raises(InputError, match="holds nan"):
        estimate([1.0, np.nan])
    with pytest.raises(InputError, match=r"same seeds on both sides, not \[2\] and \[3\]"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(InputError, match="window is 0"):
        learning_curve(REWARDS, 0)
