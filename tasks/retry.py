"""What may be tried again: only errors that say so themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypedDict, TypeVar

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.tasks import Task

from dynaq.errors import TransientError

P = ParamSpec("P")
R = TypeVar("R")


class Retry(TypedDict):
    """Arguments of ``prefect.task`` that every task of ours shares."""

    retries: int
    retry_delay_seconds: list[float]
    retry_condition_fn: Any


def _transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), TransientError)


# Some minutes: a server that is restarted, or a replica set that elects a primary, ends no night.
RETRY: Retry = {"retries": 5, "retry_delay_seconds": [2, 10, 30, 60, 120], "retry_condition_fn": _transient}


def give_up_unless_transient(flow: Callable[P, R]) -> Callable[P, R]:
    """Of a flow that has retries: Prefect tries it again after any error, this only after one that may pass.

    A run that somebody started from a terminal is not tried again at all: whoever looks on wants to read the error.
    """

    @functools.wraps(flow)  # no context manager as a decorator: Prefect pickles what a flow is made of
    def tried(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return flow(*args, **kwargs)
        except Exception as error:
            context = FlowRunContext.get()
            run = context and context.flow_run
            if run and not (isinstance(error, TransientError) and run.deployment_id):
                with get_client(sync_client=True) as client:
                    policy = run.empirical_policy.model_copy(update={"retries": 0})
                    client.update_flow_run(run.id, empirical_policy=policy)
            raise

    return tried
