"""A night keeps the day of its beginning, over failures and kills, until it has ended well or is too old."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dynaq.config_file import load_config
from dynaq.errors import TransientError
from flows.night import day_of_the_night
from tests.paths import BASE_CONFIG

DAY_S = 86_400


def day_of(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).date().isoformat()


def test_a_night_that_began_yesterday_is_of_yesterday_until_it_has_ended(tmp_path: Path) -> None:
    config = load_config(BASE_CONFIG, {"workdir": str(tmp_path), "night.longest_h": 30})
    with pytest.raises(TransientError), day_of_the_night(config):
        raise TransientError("a server did not answer")
    (began,) = tmp_path.iterdir()
    yesterday = time.time() - DAY_S
    os.utime(began, (yesterday, yesterday))  # a day passes
    with pytest.raises(TransientError), day_of_the_night(config) as day:
        raise TransientError(day)
    with day_of_the_night(config) as day:
        assert day == day_of(yesterday)
    with day_of_the_night(config) as day:
        assert day != day_of(yesterday)


@pytest.mark.parametrize("shift_s", [-31 * 3600, 2 * DAY_S])
def test_what_is_too_old_or_of_a_day_to_come_is_another_night(tmp_path: Path, shift_s: float) -> None:
    config = load_config(BASE_CONFIG, {"workdir": str(tmp_path), "night.longest_h": 30})
    then = time.time() + shift_s
    (tmp_path / "night-began").touch()
    os.utime(tmp_path / "night-began", (then, then))
    with day_of_the_night(config) as day:
        assert day != day_of(then)
