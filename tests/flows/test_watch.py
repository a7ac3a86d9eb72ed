"""Bad nights on a real Prefect server, told to a real HTTP receiver: once each, again if it was away, and no others.

And what is done about them: a killed one is started once more, of missed ones the newest is left.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.states import (
    AwaitingConcurrencySlot,
    AwaitingRetry,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Running,
    Scheduled,
    State,
)
from prefect.utilities.urls import url_for

from flows.watch import look_at_nights, skip_missed_nights
from tests.paths import BASE_CONFIG
from tests.receiver import Receiver

NOW = timedelta(0)
LONG = timedelta(hours=12)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def nights(prefect_api: str, tmp_path: Path) -> Iterator[Nights]:
    with get_client(sync_client=True) as client:
        nights = Nights(client, tmp_path)
        yield nights
        client.delete_deployment(nights.deployment)


class Nights:
    """Runs of a deployment that is called as the nightly one, in states that a worker and a server would give them."""

    def __init__(self, client: SyncPrefectClient, workdir: Path) -> None:
        self.client = client
        flow_id = client.create_flow_from_name(f"night-{workdir.name}")
        schedules = [DeploymentScheduleCreate(schedule=CronSchedule(cron="0 2 * * *", timezone="UTC"))]
        self.deployment = client.create_deployment(
            flow_id, "nightly", enforce_parameter_schema=False, schedules=schedules
        )
        self._parameters = {"config": str(BASE_CONFIG), "overrides": {"workdir": str(workdir)}}

    def plan(self, ago: timedelta = NOW) -> FlowRun:
        """A run that somebody asked for, and that should have begun some time ago."""
        state = Scheduled(scheduled_time=datetime.now(UTC) - ago)
        return self.client.create_flow_run_from_deployment(self.deployment, parameters=self._parameters, state=state)

    def end(self, state: State, ago: timedelta = NOW) -> FlowRun:
        """A run that is in this state now."""
        run = self.plan(ago)
        self.client.set_flow_run_state(run.id, state, force=True)
        return run

    def runs(self) -> dict[UUID, FlowRun]:
        """All that should have begun by now."""
        mine = DeploymentFilter(id=DeploymentFilterId(any_=[self.deployment]))
        due = FlowRunFilter.model_validate({"expected_start_time": {"before_": datetime.now(UTC)}})
        return {run.id: run for run in self.client.read_flow_runs(deployment_filter=mine, flow_run_filter=due)}

    def state(self, run: FlowRun) -> str:
        found = self.client.read_flow_run(run.id).state
        assert found is not None
        return found.type.value


def test_a_bad_end_is_told_once_and_a_good_one_not(nights: Nights, said: list[str]) -> None:
    runs = [
        nights.end(state(message=f"{state.__name__}\nand more")) for state in (Failed, Crashed, Cancelled, Completed)
    ]
    with Receiver() as receiver:
        for _ in range(2):
            look_at_nights(receiver.address, said.append, NOW, LONG)
    assert sorted(receiver.got) == sorted(
        f"dynaq: night {run.name} {name}: {name}\n{url_for(run)}"
        for run, name in zip(runs, ("Failed", "Crashed", "Cancelled"), strict=False)
    )
    assert len([line for line in said if line.endswith("the notice has arrived")]) == 3
    nights.client.set_flow_run_state(runs[0].id, Running(), force=True)  # by hand
    nights.client.set_flow_run_state(runs[0].id, Failed(message="again"), force=True)
    with Receiver() as receiver:
        look_at_nights(receiver.address, said.append, NOW, LONG)
    assert [text.splitlines()[0] for text in receiver.got] == [f"dynaq: night {runs[0].name} Failed: again"]


def test_a_notice_that_did_not_arrive_is_sent_again_its_address_never_said(nights: Nights, said: list[str]) -> None:
    run = nights.end(Failed(message="Flow run encountered an exception: InputError: no such table"))
    receiver = Receiver()
    look_at_nights(receiver.address, said.append, NOW, LONG)
    failed = f"night {run.name} Failed: InputError: no such table"
    assert f"{failed}: the notice did not arrive (ConnectionError); it is sent again" in said
    with receiver:
        look_at_nights(receiver.address, said.append, NOW, LONG)
    assert f"dynaq: {failed}\n{url_for(run)}" in receiver.got
    assert "S3ntinel" not in "".join(said)


def test_a_night_whose_process_is_gone_has_crashed(nights: Nights, said: list[str], tmp_path: Path) -> None:
    run = nights.end(Running())
    with (tmp_path / "run.lock").open("w") as lock, Receiver() as receiver:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert look_at_nights(receiver.address, said.append, NOW, LONG) >= 1
        assert nights.state(run) == "RUNNING"
        fcntl.flock(lock, fcntl.LOCK_UN)
        look_at_nights(receiver.address, said.append, timedelta(minutes=5), LONG)  # it may just have begun
        assert nights.state(run) == "RUNNING"
        look_at_nights(receiver.address, said.append, NOW, LONG)
        look_at_nights(receiver.address, said.append, NOW, LONG)
    assert nights.state(run) == "CRASHED"
    assert receiver.got == [f"dynaq: night {run.name} Crashed: its process is gone without a word\n{url_for(run)}"]


def test_a_night_that_is_to_be_tried_again_is_lost_when_it_is_not(nights: Nights, said: list[str]) -> None:
    later = nights.end(AwaitingRetry(scheduled_time=datetime.now(UTC) + timedelta(minutes=1)))
    late = nights.end(AwaitingRetry(scheduled_time=datetime.now(UTC) - timedelta(minutes=1)))
    look_at_nights("", said.append, NOW, LONG)
    assert (nights.state(later), nights.state(late)) == ("SCHEDULED", "CRASHED")


def test_a_night_that_crashed_is_started_once_more_and_no_other(nights: Nights, said: list[str]) -> None:
    crashed = nights.end(Crashed(message="Process exited with status code: -9"))
    others = [nights.end(Cancelled()), nights.end(Failed()), nights.end(Crashed(), ago=timedelta(days=2))]
    for _ in range(2):
        look_at_nights("", said.append, NOW, LONG)
    before = {crashed.id, *(run.id for run in others)}
    (again,) = (run for run in nights.runs().values() if run.id not in before)
    assert (again.name, again.parameters) == (f"{crashed.name}-again", crashed.parameters)
    assert nights.state(again) == "SCHEDULED"
    assert said == [f"night {crashed.name} crashed: {again.name} goes on from it"]
    nights.client.set_flow_run_state(again.id, Crashed(), force=True)
    look_at_nights("", said.append, NOW, LONG)
    assert nights.runs().keys() == {again.id, *before}


def test_a_night_that_does_not_end_or_begin_is_told_once(nights: Nights, said: list[str], tmp_path: Path) -> None:
    hangs, soon = nights.end(Running()), nights.plan(timedelta(minutes=59))
    late, waits = nights.plan(timedelta(minutes=61)), nights.plan(timedelta(hours=3))
    with (tmp_path / "run.lock").open("w") as lock, Receiver() as receiver:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(2):
            state = AwaitingConcurrencySlot(scheduled_time=datetime.now(UTC) + timedelta(seconds=30))
            nights.client.set_flow_run_state(waits.id, state, force=True)  # as the server does again and again
            look_at_nights(receiver.address, said.append, NOW, timedelta(milliseconds=1))
            look_at_nights(receiver.address, said.append, NOW, LONG)
    told = {run.name: [text for text in receiver.got if run.name in text] for run in (hangs, soon, late, waits)}
    assert [len(texts) for texts in told.values()] == [1, 0, 1, 1]
    assert f"{hangs.name} Running for more than 2.77778e-07 h (night.longest_h)\n" in told[hangs.name][0]
    planned = f"{datetime.now(UTC) - timedelta(hours=3):%Y-%m-%d %H:}"
    assert f"{waits.name} AwaitingConcurrencySlot: planned for {planned}" in told[waits.name][0]


def test_of_missed_nights_the_newest_is_run(nights: Nights, said: list[str]) -> None:
    today = datetime.now(UTC).replace(hour=1, minute=0, second=0, microsecond=0)
    days = {"start_time": str(today - timedelta(days=4)), "end_time": str(today - timedelta(days=1)), "min_runs": 3}
    nights.client.request("POST", "/deployments/{id}/schedule", path_params={"id": nights.deployment}, json=days)
    asked_for = nights.plan(timedelta(days=3))
    skip_missed_nights(said.append)
    runs = sorted(nights.runs().values(), key=lambda run: str(run.expected_start_time))
    assert len(runs) == 4
    assert nights.state(asked_for) == "SCHEDULED"
    planned = [run for run in runs if run.auto_scheduled]
    assert [nights.state(run) for run in planned] == ["CANCELLED", "CANCELLED", "SCHEDULED"]
    with Receiver() as receiver:
        look_at_nights(receiver.address, said.append, NOW, LONG)
    assert not [text for text in receiver.got for run in planned[:2] if run.name in text]
    assert "nights that were missed and are skipped: 2; the newest is run" in said
