"""Child processes that do not outlive their parent, however it dies."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # prctl(2)


def death_pact(number: signal.Signals = signal.SIGKILL) -> Callable[[], None] | None:
    """What a child does before it becomes another program: ask Linux for a signal when its parent is gone.

    For ``preexec_fn`` of ``subprocess.Popen``. The signal comes when the parent *thread* ends: start the child from
    one that lives as long as it is wanted. Elsewhere than on Linux there is no such pact: None.
    """
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def sign() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the pact
            os._exit(1)

    return sign


def end_with_parent() -> None:
    """End this process soon after the one that started it through multiprocessing; nothing in others.

    A worker of a pool whose owner was killed would go on with its task, beside the next run, and then wait for ever.
    """
    if multiprocessing.current_process().name == "MainProcess":  # parent_process() is not known yet where we are called
        return
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
