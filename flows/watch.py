"""What `make services` sees of the nights: who is told when one did not end well, and that one was killed at all.

Neither hooks of the flow nor automations of the server tell of it: a process that was killed runs no hook; an
automation calls once and never again, and on SQLite it may lose the event itself ("database is locked", in a trial).
What the server knows of a run is not lost, so that is looked at, again and again, until the notice has arrived.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Cancelling, Crashed
from prefect.utilities.urls import url_for

from dynaq.config_file import load_config
from dynaq.errors import DynaqError
from flows.alone import lock_file

_TOLD = "dynaq.told"  # a label of the run, so that no other process tells of it
_told: set[str] = set()  # nor this one, where the server did not take the label
_NEWS_FOR = timedelta(days=1)
_SHORT = {PREFECT_API_REQUEST_TIMEOUT: 5.0, PREFECT_CLIENT_MAX_RETRIES: 1}  # whoever calls us asks again
_NIGHTLY = DeploymentFilter(name=DeploymentFilterName(any_=["nightly"]))
_BAD_ENDS = {"type": {"any_": ["FAILED", "CRASHED", "CANCELLED"]}}
_UNDER_WAY = {
    "operator": "or_",
    "type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]},
    "name": {"any_": ["AwaitingRetry"]},
}


def look_at_nights(address: str, say: Callable[[str], None], lost_after: timedelta) -> int:
    """Mark nights whose process is gone as ended, and tell the address of those that ended badly, once each.

    Args:
        address: a webhook that takes ``{"text": ...}``, as Slack's do; a secret. Without one nobody is told.
        say: told in a line what was done, or could not be.
        lost_after: how long a run may be under way without the lock of its working directory.

    Returns:
        How many nights are under way.
    """
    now = datetime.now(UTC)
    with temporary_settings(_SHORT), get_client(sync_client=True) as client:
        under_way = _nights(client, _UNDER_WAY)
        for run in under_way:
            if run.state and now - _since(run.state) > lost_after and not _works(run):
                client.set_flow_run_state(run.id, _end(run.state))
        for run in _nights(client, _BAD_ENDS) if address else []:
            fresh = run.state and now - run.state.timestamp < _NEWS_FOR
            end = str(run.state and run.state.id)  # a run that is tried again by hand may end badly once more
            if fresh and run.labels.get(_TOLD) != end and (end in _told or _tell(address, run, say)):
                _told.add(end)
                client.update_flow_run_labels(run.id, {_TOLD: end})
    return len(under_way)


def cancel_nights() -> None:
    """Let the worker end the nights that are under way, in order."""
    with temporary_settings(_SHORT), get_client(sync_client=True) as client:
        for run in _nights(client, _UNDER_WAY):
            client.set_flow_run_state(run.id, Cancelling(message="the services were stopped"))


def _nights(client: SyncPrefectClient, state: dict[str, Any]) -> list[FlowRun]:
    """The latest nights in a state."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate({"state": state}),
        deployment_filter=_NIGHTLY,
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=50,
    )


def _since(state: State) -> datetime:
    """From when on a process should hold the lock: a night that is to be tried again does not before its time."""
    return max(state.timestamp, state.state_details.scheduled_time or state.timestamp)


def _end(state: State) -> State:
    """How a run ended that was in this state; from Cancelling, Prefect takes Cancelled alone."""
    if state.is_cancelling():
        return Cancelled(message=state.message)
    return Crashed(message="its process is gone without a word")


def _works(run: FlowRun) -> bool:
    """Whether somebody holds the lock of the directory that a night works in; if that cannot be said, it does."""
    try:
        path = lock_file(load_config(run.parameters["config"], run.parameters.get("overrides")))
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except (DynaqError, KeyError, OSError):  # among them: it is locked
        return True
    return False


def _tell(address: str, run: FlowRun, say: Callable[[str], None]) -> bool:
    assert run.state is not None
    reason = (run.state.message or "no reason given").removeprefix("Flow run encountered an exception: ")
    first = next(iter(reason.splitlines()), "no reason given")
    text = f"dynaq: night {run.name} {run.state.name}: {first[:400]}\n{url_for(run)}"
    try:
        requests.post(address, json={"text": text}, timeout=10).raise_for_status()
    except requests.RequestException as error:  # its message holds the address
        say(f"night {run.name} {run.state.name}: the notice did not arrive ({type(error).__name__}); it is sent again")
        return False
    say(f"night {run.name} {run.state.name}: the notice has arrived")
    return True
