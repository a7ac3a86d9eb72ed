"""Prefect: its server answers, and the night is registered there, in a work pool that somebody serves, at an hour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from dynaq.config import NightConfig
from dynaq.doctor.finding import Finding

_NIGHTLY = "nightly/nightly"


def check_server(api: str | None) -> Finding:
    """Whether the server of that address answers; None is no fault."""
    if api is None:
        return Finding(
            "ok", "no PREFECT_API_URL, no services: a server runs for as long as a flow does, and no schedule"
        )
    with _client(api) as client:
        error = client.api_healthcheck()
        if error is None:
            return Finding("ok", f"a server of version {client.api_version()} answers")
    return Finding(
        "FAIL",
        f"the server of PREFECT_API_URL, or of services that were killed, does not answer ({type(error).__name__})",
        "start it (make services), or correct or unset the address (of services: remove prefect-api-url from workdir)",
    )


def check_deployment(api: str) -> Finding:
    """Whether the night is registered, in a work pool that a worker serves."""
    with _client(api) as client:
        nightly = _nightly(client)
        if nightly is None:
            return Finding("warn", f"{_NIGHTLY} is not registered: nights run by hand", "make services registers it")
        if nightly.work_pool_name is None:
            return Finding("FAIL", f"{_NIGHTLY} is in no work pool", "register it again (make services)")
        pool = client.read_work_pool(nightly.work_pool_name)
        workers = client.read_workers_for_work_pool(pool.name)
    online = [worker for worker in workers if worker.status == "ONLINE"]
    seen = f"{_NIGHTLY}, work pool {pool.name}, workers online: {len(online)}"
    if nightly.paused or pool.is_paused:
        paused = f"deployment resume {_NIGHTLY}" if nightly.paused else f"work-pool resume {pool.name}"
        return Finding("FAIL", f"{seen}, paused", f"prefect {paused}")
    return Finding("ok", seen) if online else Finding("FAIL", seen, "start one (make services)")


def check_schedule(api: str, night: NightConfig) -> Finding:
    """When the night begins, whether that is as it is configured, and what time it is there and here."""
    with _client(api) as client:
        nightly = _nightly(client)
    active = [each.schedule for each in nightly.schedules if each.active] if nightly else []
    if not active:
        return Finding("warn", "no schedule is active: nights run by hand only", "make services registers the schedule")
    here, told, registered = datetime.now().astimezone(), [], set()
    for schedule in active:
        zone = getattr(schedule, "timezone", None) or "UTC"
        there = datetime.now(ZoneInfo(zone))
        when = getattr(schedule, "cron", None) or type(schedule).__name__
        told.append(f"{when} in {zone}, where it is {there:%H:%M} now")
        registered.add((when, zone))
    seen = f"{', '.join(told)} (on this machine {here:%H:%M %Z})"
    if (night.cron, night.timezone) in registered:
        return Finding("ok", seen)
    other = f"{seen}; night.cron and night.timezone say {night.cron} in {night.timezone}"
    return Finding("warn", other, "make services with this configuration registers it")


def _nightly(client: SyncPrefectClient) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(_NIGHTLY)
    except ObjectNotFound:
        return None


@contextmanager
def _client(api: str) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: api, PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(httpx_settings={"timeout": 5}, sync_client=True) as client,
    ):
        yield client
