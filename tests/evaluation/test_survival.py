"""Times to a threshold, some of them censored, against curves drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dynaq.errors import InputError
from dynaq.evaluation.study.survival import survival


def test_kaplan_meier_by_hand() -> None:
    # 5 seeds: one there after 2 steps, two after 3, one at the horizon itself, one never.
    found = survival([3, None, 2, 3, 6], horizon=6)
    assert found.steps.tolist() == [1, 2, 3, 4, 5, 6]
    # 1 | x 4/5 | x 2/4 | | | x 1/2
    assert found.not_reached == pytest.approx([1, 0.8, 0.4, 0.4, 0.4, 0.2])
    assert found.median == 3
    assert found.reached_share == pytest.approx(0.8)
    assert found.restricted_mean == pytest.approx((3 + 6 + 2 + 3 + 6) / 5)


def test_half_is_enough_for_a_median_and_less_is_not() -> None:
    assert survival([2, 4, None, None], horizon=5).median == 4
    assert survival([2, None, None], horizon=5).median is None
    # 5/6 x 4/5 x 3/4 is half, whatever the last bit says.
    for seeds in range(2, 60, 2):
        times = [*range(1, seeds // 2 + 1), *[None] * (seeds // 2)]
        assert survival(times, horizon=seeds).median == seeds // 2


@pytest.mark.parametrize(
    ("times", "curve", "median", "mean"), [([1, 1], [0, 0, 0], 1, 1.0), ([None, None], [1, 1, 1], None, 3.0)]
)
def test_all_and_none(times: list[int | None], curve: list[int], median: int | None, mean: float) -> None:
    found = survival(times, horizon=3)
    assert found.not_reached.tolist() == curve
    assert found.median == median
    assert found.restricted_mean == mean
    assert found.reached_share == 1 - curve[-1]


def test_bad_times_are_named() -> None:
    with pytest.raises(InputError, match="seed row 1 is 7, it must be 1 to the horizon, 6, or None"):
        survival([2, 7], horizon=6)
    with pytest.raises(InputError, match="seed row 0 is 0"):
        survival([0, 2], horizon=6)
    with pytest.raises(InputError, match="seed row 0 is nan"):
        survival([np.nan, 2], horizon=6)
    with pytest.raises(InputError, match="horizon is 0"):
        survival([None, None], horizon=0)
    with pytest.raises(InputError, match="given for 1 seed, they need at least 2"):
        survival([2], horizon=6)
