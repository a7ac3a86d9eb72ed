"""When a night runs on its own, and what it does where another one works."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator

from dynaq.config.section import Section


class NightConfig(Section):
    """The schedule of the nightly flow, and two nights in one working directory.

    Attributes:
        cron: minute, hour, day, month, weekday, as Debian's cron reads them.
        timezone: of the cron, an IANA name. In an hour that the clock skips the night starts an hour early, in one
            that comes twice it starts once.
        longest_h: hours. Whoever watches tells of a night that takes longer; one that is started again sooner, after a
            kill or an error, is the same night, of the same day.
        on_busy: ``wait`` until the other run in this working directory has ended, or ``refuse`` to start.
    """

    cron: Annotated[str, Field(pattern=r"^\S+( \S+){4}$")]
    timezone: str
    longest_h: Annotated[float, Field(gt=0, le=168)]
    on_busy: Literal["wait", "refuse"]

    @field_validator("cron")
    @classmethod
    def _comes(cls, cron: str) -> str:
        try:
            CronSim(cron, datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(f"{error}; write minute, hour, day, month and weekday") from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError("there is no such time zone; write UTC or a name as Europe/Berlin") from None
        return timezone
