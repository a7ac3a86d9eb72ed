"""Child processes that do not outlive their parent, however it dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
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
