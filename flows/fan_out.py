"""Many tasks at once, in processes: threads would share torch's global seed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from prefect import Task
from prefect.futures import as_completed
from prefect.task_runners import ProcessPoolTaskRunner
from tqdm import tqdm

K = TypeVar("K")


def fan_out(task: Task[..., Any], calls: Mapping[K, dict[str, Any]], processes: int) -> dict[K, Any]:
    """Run a task once for each set of arguments, at most so many processes at a time.

    All are run to their end before the first error is raised, so that what has finished is there for the next try.
    """
    with ProcessPoolTaskRunner(max_workers=min(processes, max(len(calls), 1))) as runner:
        futures = {key: runner.submit(task, arguments) for key, arguments in calls.items()}
        waiting = as_completed(list(futures.values()))
        for _ in tqdm(waiting, desc=task.name, total=len(futures), unit=" arms", file=sys.stderr, mininterval=1):
            pass
        return {key: future.result() for key, future in futures.items()}
