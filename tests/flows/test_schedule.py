"""The nightly cron on the days that the clock changes, asked of Prefect's own schedule as its scheduler does."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

SPRING, AUTUMN = date(2027, 3, 28), date(2026, 10, 25)


async def starts(cron: str, zone: str, day: date) -> set[datetime]:
    """All starts that a scheduler that looks every ten minutes sees from the day before to the day after."""
    schedule, found = CronSchedule(cron=cron, timezone=zone), set()
    first = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=2)
    for ten_minutes in range(4 * 24 * 6):
        now = first + timedelta(minutes=10 * ten_minutes)
        found |= {each.astimezone(UTC) for each in await schedule.get_dates(n=1, start=now)}
    return found


@pytest.mark.parametrize("day", [SPRING, AUTUMN])
@pytest.mark.parametrize("cron", ["0 2 * * *", "30 2 * * *", "30 1 * * *", "0 3 * * *"])
def test_a_night_starts_once_on_the_days_the_clock_changes(cron: str, day: date) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    found = asyncio.run(starts(cron, "Europe/Berlin", day))
    nights = Counter(each.astimezone(berlin).date() for each in found)
    assert [nights[day + timedelta(days=shift)] for shift in (-1, 0, 1)] == [1, 1, 1]


def test_in_an_hour_that_is_skipped_it_starts_an_hour_early() -> None:
    found = asyncio.run(starts("30 2 * * *", "Europe/Berlin", SPRING))
    assert datetime(2027, 3, 28, 0, 30, tzinfo=UTC) in found  # 01:30; there is no 02:30
