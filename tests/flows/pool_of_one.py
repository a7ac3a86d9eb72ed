"""A process that has a pool with one worker, whose number it prints, and a long task."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

import tasks  # as whoever unpickles a task does


def work() -> None:
    assert tasks
    print(os.getpid(), flush=True)
    time.sleep(60)


if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(work).result()
