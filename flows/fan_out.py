"""Many tasks at once, in processes or on a Dask cluster: threads would share torch's global seed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from prefect import Task
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner
from tqdm import tqdm

from dynaq.artifacts import finished
from dynaq.config import Config
from dynaq.errors import MissingDependencyError, TransientError

K = TypeVar("K")


def fan_out(
    task: Task[..., Any],
    calls: Mapping[K, dict[str, Any]],
    config: Config,
    results: Callable[[K], Iterable[Path]] = lambda _: (),
    account: Callable[[], str] | None = None,
    unit: str = " arms",
) -> dict[K, Any]:
    """Run a task once for each set of arguments, ``processes`` of them at a time.

    All are run to their end before the first error is raised, so that what has finished is there for the next try.

    Args:
        task: what is run.
        calls: its arguments, by whom they are for.
        config: says how many processes, and where.
        results: where a call's results lie, made or not yet. Where all are there the task only finds them, and is run
            here: a process would import torch for it.
        account: says what has been spent; it is shown beside the bar.
        unit: what the bar counts.

    Raises:
        TransientError: a process was killed, and with it what the others were at.
        Exception: whatever a task raises.
    """
    made = {key for key in calls if _made(results(key), config)}
    missing = {key: arguments for key, arguments in calls.items() if key not in made}
    with ExitStack() as stack:
        futures: dict[K, PrefectFuture[Any]] = {}
        if missing:
            stack.enter_context(_killed_may_pass(task.name))
            runner = stack.enter_context(_runner(config, len(missing)))
            futures = {key: runner.submit(task, arguments) for key, arguments in missing.items()}
        found = {key: task(**calls[key], return_state=True) for key in calls if key in made}
        _await(futures.values(), task.name, account, unit)
        return {key: (found[key] if key in made else futures[key]).result() for key in calls}


def _made(results: Iterable[Path], config: Config) -> bool:
    """Whether there are results, and all are whole."""
    paths = list(results)
    return bool(paths) and all(finished(path, config.work_path) for path in paths)


def _await(futures: Collection[PrefectFuture[Any]], name: str, account: Callable[[], str] | None, unit: str) -> None:
    """Show a bar until all have ended, well or not."""
    if not futures:
        return
    every_s = 1 if sys.stderr.isatty() else 30  # in a log each word of the bar is a line
    with (
        tqdm(desc=name, total=len(futures), unit=unit, file=sys.stderr, mininterval=every_s) as bar,
        _told(bar, account, every_s),
    ):
        for _ in as_completed(list(futures)):
            bar.update()


def _runner(config: Config, calls: int) -> TaskRunner[Any]:
    """Processes here, a Dask cluster of processes here, or the cluster of a scheduler that is told."""
    workers = min(config.processes, calls)
    if config.dask is None:
        return ProcessPoolTaskRunner(max_workers=workers)
    try:
        import dask
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise MissingDependencyError(
            f"dask is {config.dask!r}, and prefect-dask is not installed: pip install 'dynaq[dask]' or set dask to null"
        ) from None
    if config.dask != "local":
        return DaskTaskRunner(address=config.dask)
    # Dask has glibc give each array that is freed back to the system: a third of training then went into new pages.
    dask.config.set({"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None})
    # One thread a worker: what is fanned out computes, and seeds torch's generator.
    return DaskTaskRunner(
        cluster_class="distributed.LocalCluster",
        cluster_kwargs={"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None},
    )


@contextmanager
def _killed_may_pass(name: str) -> Iterator[None]:
    """Let a night be tried again whose workers were killed, as the kernel does with them where memory is short."""
    try:
        yield
    except Exception as error:
        dask = sys.modules.get("distributed")  # who has not imported it does not get its error
        if isinstance(error, BrokenExecutor) or (dask and isinstance(error, dask.KilledWorker)):
            raise TransientError(
                f"a process of {name} was killed: if memory is short, set processes lower or give Dask's workers more"
            ) from None
        raise


@contextmanager
def _told(bar: tqdm[Any], account: Callable[[], str] | None, every_s: float) -> Iterator[None]:
    """Show what has been spent beside a bar, up to its last word."""
    if account is None:
        yield
        return
    over = threading.Event()

    def tell() -> None:
        with suppress(TransientError):  # a bar is not worth a night
            bar.set_postfix_str(account())

    def keep_telling() -> None:
        while not over.wait(every_s):
            tell()

    teller = threading.Thread(target=keep_telling, daemon=True)
    teller.start()
    try:
        yield
        tell()
    finally:
        over.set()
        teller.join()
