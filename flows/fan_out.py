"""Many tasks at once, in processes: threads would share torch's global seed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from prefect import Task
from prefect.futures import as_completed
from prefect.task_runners import ProcessPoolTaskRunner
from tqdm import tqdm

from dynaq.errors import TransientError

K = TypeVar("K")


def fan_out(
    task: Task[..., Any],
    calls: Mapping[K, dict[str, Any]],
    processes: int,
    account: Callable[[], str] | None = None,
) -> dict[K, Any]:
    """Run a task once for each set of arguments, at most so many processes at a time.

    All are run to their end before the first error is raised, so that what has finished is there for the next try.
    ``account`` says what has been spent; it is asked each second and shown beside the bar.
    """
    with ProcessPoolTaskRunner(max_workers=min(processes, max(len(calls), 1))) as runner:
        futures = {key: runner.submit(task, arguments) for key, arguments in calls.items()}
        with (
            tqdm(desc=task.name, total=len(futures), unit=" arms", file=sys.stderr, mininterval=1) as bar,
            _told_each_second(bar, account),
        ):
            for _ in as_completed(list(futures.values())):
                bar.update()
        return {key: future.result() for key, future in futures.items()}


@contextmanager
def _told_each_second(bar: tqdm[Any], account: Callable[[], str] | None) -> Iterator[None]:
    """Show what has been spent beside a bar, up to its last word."""
    if account is None:
        yield
        return
    over = threading.Event()

    def tell() -> None:
        with suppress(TransientError):  # a bar is not worth a night
            bar.set_postfix_str(account())

    def keep_telling() -> None:
        while not over.wait(1):
            tell()

    teller = threading.Thread(target=keep_telling, daemon=True)
    teller.start()
    try:
        yield
        tell()
    finally:
        over.set()
        teller.join()
