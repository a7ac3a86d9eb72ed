"""What may be tried again: only errors that say so themselves."""

from __future__ import annotations

from typing import Any, TypedDict

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from dynaq.errors import TransientError


class Retry(TypedDict):
    """Arguments of ``prefect.task`` that every task of ours shares."""

    retries: int
    retry_delay_seconds: list[float]
    retry_condition_fn: Any


def _transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), TransientError)


# Some minutes: a server that is restarted, or a replica set that elects a primary, ends no night.
RETRY: Retry = {"retries": 5, "retry_delay_seconds": [2, 10, 30, 60, 120], "retry_condition_fn": _transient}
