"""What `make services` sees of the nights: one that was killed, hangs, never starts or ended badly, and who is told.

Neither hooks of the flow nor automations of the server tell of it: a process that was killed runs no hook; an
automation calls once and never again, and on SQLite it may lose the event itself ("database is locked", in a trial).
What the server knows of a run is not lost, so that is looked at, again and again, until the notice has arrived.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

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
_AGAIN = "dynaq.again"  # a label of a night that crashed and of the one that was started for it
_NEWS_FOR = timedelta(days=1)
_HOUR = timedelta(hours=1)
_SHORT = {PREFECT_API_REQUEST_TIMEOUT: 5.0, PREFECT_CLIENT_MAX_RETRIES: 1}  # whoever calls us asks again
_NIGHTLY = DeploymentFilter(name=DeploymentFilterName(any_=["nightly"]))
_SKIPPED = "Skipped"
_BAD_ENDS = {"type": {"any_": ["FAILED", "CRASHED", "CANCELLED"]}, "name": {"not_any_": [_SKIPPED]}}
_UNDER_WAY = {
    "operator": "or_",
    "type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]},
    "name": {"any_": ["AwaitingRetry"]},
}
_WAITING = {"type": {"any_": ["SCHEDULED"]}, "name": {"not_any_": ["AwaitingRetry"]}}


def look_at_nights(address: str, say: Callable[[str], None], lost_after: timedelta, longest: timedelta) -> int:
    """Mark nights whose process is gone as ended, start them once more, and tell of what is not well, once each.

    Told are nights that ended badly, that have been under way for too long, and that did not start within an hour.

    Args:
        address: a webhook that takes ``{"text": ...}``, as Slack's do; a secret. Without one nobody is told.
        say: told in a line what was done, or could not be.
        lost_after: how long a run may be under way without the lock of its working directory.
        longest: how long a run may be under way.

    Returns:
        How many nights are under way.
    """
    now = datetime.now(UTC)
    with temporary_settings(_SHORT), get_client(sync_client=True) as client:
        under_way, news = _nights(client, _UNDER_WAY), list[_News]()
        for run, state in under_way:
            if now - _since(state) > lost_after and not _works(run):
                client.set_flow_run_state(run.id, _end(state))
            elif now - _since(state) > longest:
                limit = f"{longest / _HOUR:g} h (night.longest_h)"
                news.append(_News(run, str(state.id), f"{state.name} for more than {limit}"))
        for run, state in _nights(client, _BAD_ENDS):
            if now - state.timestamp < _NEWS_FOR:
                # A run that is tried again by hand may end badly once more, in another state.
                news.append(_News(run, str(state.id), f"{state.name}: {_reason(state)}"))
                if state.is_crashed() and now - _planned(run) < _NEWS_FOR and _AGAIN not in run.labels:
                    _start_again(client, run, say)
        for run, state in _nights(client, _WAITING, planned_before=now - _HOUR):
            # Who waits for another night is in a new state every half minute.
            when = f"{_planned(run):%Y-%m-%d %H:%M}"
            news.append(_News(run, f"late {run.id}", f"{state.name}: planned for {when} UTC, not started"))
        for each in news if address else []:
            if each.run.labels.get(_TOLD) != each.key and (each.key in _told or _tell(address, each, say)):
                _told.add(each.key)
                client.update_flow_run_labels(each.run.id, {_TOLD: each.key})
    return len(under_way)


def skip_missed_nights(say: Callable[[str], None]) -> None:
    """Of the nights that were planned while there were no services, leave only the newest: it does what they would."""
    with get_client(sync_client=True) as client:
        planned = _nights(client, _WAITING, planned_before=datetime.now(UTC))
        missed = [run for run, _ in planned if run.auto_scheduled][1:]
        for run in missed:
            client.set_flow_run_state(run.id, Cancelled(name=_SKIPPED, message="missed; a later night is run"))
    if missed:
        say(f"nights that were missed and are skipped: {len(missed)}; the newest is run")


def cancel_nights() -> None:
    """Let the worker end the nights that are under way, in order."""
    with temporary_settings(_SHORT), get_client(sync_client=True) as client:
        for run, _ in _nights(client, _UNDER_WAY):
            client.set_flow_run_state(run.id, Cancelling(message="the services were stopped"))


class _News(NamedTuple):
    """What is to be told of a run; nothing is told twice under a key."""

    run: FlowRun
    key: str
    text: str


def _nights(
    client: SyncPrefectClient, state: dict[str, Any], planned_before: datetime | None = None
) -> list[tuple[FlowRun, State]]:
    """The latest nights in a state, the newest first."""
    planned = {"before_": planned_before} if planned_before else None
    found = client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate({"state": state, "expected_start_time": planned}),
        deployment_filter=_NIGHTLY,
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=200,  # Prefect plans a hundred nights ahead, and gives no more at once
    )
    return [(run, run.state) for run in found if run.state]


def _start_again(client: SyncPrefectClient, run: FlowRun, say: Callable[[str], None]) -> None:
    """Schedule a night once more that was killed, as by a kernel short of memory: it goes on from what is on disk."""
    assert run.deployment_id
    again = client.create_flow_run_from_deployment(
        run.deployment_id,
        name=f"{run.name}-again",
        parameters=run.parameters,
        job_variables=run.job_variables,
        idempotency_key=f"again {run.id}",  # however often it is asked for, it is one run
        labels={_AGAIN: str(run.id)},
    )
    client.update_flow_run_labels(run.id, {_AGAIN: str(again.id)})
    say(f"night {run.name} crashed: {again.name} goes on from it")


def _planned(run: FlowRun) -> datetime:
    """When a night should have begun."""
    return run.expected_start_time or datetime.now(UTC)


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


def _reason(state: State) -> str:
    """The first line of why a run is in a state."""
    message = (state.message or "").removeprefix("Flow run encountered an exception: ")
    return next(iter(message.splitlines()), "no reason given")[:400]


def _tell(address: str, news: _News, say: Callable[[str], None]) -> bool:
    what = f"night {news.run.name} {news.text}"
    try:
        text = f"dynaq: {what}\n{url_for(news.run)}"
        requests.post(address, json={"text": text}, timeout=10).raise_for_status()
    except requests.RequestException as error:  # its message holds the address
        say(f"{what}: the notice did not arrive ({type(error).__name__}); it is sent again")
        return False
    say(f"{what}: the notice has arrived")
    return True
