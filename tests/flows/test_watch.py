"""Bad nights on a real Prefect server, told to a real HTTP receiver: once each, again if it was away, and no others."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed, Running, State
from prefect.utilities.urls import url_for

from flows.watch import look_at_nights
from tests.paths import BASE_CONFIG
from tests.receiver import Receiver

NOW = timedelta(0)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def nights(prefect_api: str, tmp_path: Path) -> Iterator[Nights]:
    with get_client(sync_client=True) as client:
        yield Nights(client, tmp_path)


class Nights:
    """Runs of a deployment that is called as the nightly one, in states that a worker and a server would give them."""

    def __init__(self, client: SyncPrefectClient, workdir: Path) -> None:
        self.client = client
        flow_id = client.create_flow_from_name(f"night-{workdir.name}")
        self._deployment = client.create_deployment(flow_id, "nightly", enforce_parameter_schema=False)
        self._parameters = {"config": str(BASE_CONFIG), "overrides": {"workdir": str(workdir)}}

    def end(self, state: State) -> FlowRun:
        """A run that is in this state now."""
        run = self.client.create_flow_run_from_deployment(self._deployment, parameters=self._parameters)
        self.client.set_flow_run_state(run.id, state, force=True)
        return run

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
            look_at_nights(receiver.address, said.append, NOW)
    assert sorted(receiver.got) == sorted(
        f"dynaq: night {run.name} {name}: {name}\n{url_for(run)}"
        for run, name in zip(runs, ("Failed", "Crashed", "Cancelled"), strict=False)
    )
    assert len(said) == 3
    nights.client.set_flow_run_state(runs[0].id, Running(), force=True)  # by hand
    nights.client.set_flow_run_state(runs[0].id, Failed(message="again"), force=True)
    with Receiver() as receiver:
        look_at_nights(receiver.address, said.append, NOW)
    assert [text.splitlines()[0] for text in receiver.got] == [f"dynaq: night {runs[0].name} Failed: again"]


def test_a_notice_that_did_not_arrive_is_sent_again_its_address_never_said(nights: Nights, said: list[str]) -> None:
    run = nights.end(Failed(message="Flow run encountered an exception: InputError: no such table"))
    receiver = Receiver()
    look_at_nights(receiver.address, said.append, NOW)
    assert f"night {run.name} Failed: the notice did not arrive (ConnectionError); it is sent again" in said
    with receiver:
        look_at_nights(receiver.address, said.append, NOW)
    assert f"dynaq: night {run.name} Failed: InputError: no such table\n{url_for(run)}" in receiver.got
    assert "S3ntinel" not in "".join(said)


def test_a_night_whose_process_is_gone_has_crashed(nights: Nights, said: list[str], tmp_path: Path) -> None:
    run = nights.end(Running())
    with (tmp_path / "run.lock").open("w") as lock, Receiver() as receiver:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert look_at_nights(receiver.address, said.append, NOW) >= 1
        assert nights.state(run) == "RUNNING"
        fcntl.flock(lock, fcntl.LOCK_UN)
        look_at_nights(receiver.address, said.append, timedelta(minutes=5))  # it may just have begun
        assert nights.state(run) == "RUNNING"
        look_at_nights(receiver.address, said.append, NOW)
        look_at_nights(receiver.address, said.append, NOW)
    assert nights.state(run) == "CRASHED"
    assert receiver.got == [f"dynaq: night {run.name} Crashed: its process is gone without a word\n{url_for(run)}"]


def test_a_night_that_is_to_be_tried_again_is_lost_when_it_is_not(nights: Nights, said: list[str]) -> None:
    later = nights.end(AwaitingRetry(scheduled_time=datetime.now(UTC) + timedelta(minutes=1)))
    late = nights.end(AwaitingRetry(scheduled_time=datetime.now(UTC) - timedelta(minutes=1)))
    look_at_nights("", said.append, NOW)
    assert (nights.state(later), nights.state(late)) == ("SCHEDULED", "CRASHED")
