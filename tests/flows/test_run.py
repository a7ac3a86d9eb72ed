"""A night whose starter is gone ends, even where its SIGTERM is lost; and so do the workers of one that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.lives import ends

NIGHT = """
import os, signal, sys, threading, time
from flows import run
run._GRACE_S = 0.5
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # dropped, as an exception in a destructor would be
threading.Thread(target=run._end_with, args=[os.getppid()], daemon=True).start()
print(os.getpid(), flush=True)
time.sleep(60)
"""
STARTER = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {NIGHT!r}], start_new_session=True)
time.sleep(60)
"""


def test_a_night_that_lost_its_starter_ends() -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    night = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    starter.stdout.close()
    os.kill(night, signal.SIGTERM)
    assert ends(night, 20)


FLOW = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
with ProcessPoolExecutor(1, get_context("spawn")) as pool:
    pool.submit(exec, "import tasks").result()
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 60)
"""


def test_a_worker_ends_with_its_flow() -> None:
    flow = subprocess.Popen([sys.executable, "-c", FLOW], stdout=subprocess.PIPE, text=True)
    assert flow.stdout is not None
    worker = int(flow.stdout.readline())
    flow.kill()
    flow.wait()
    flow.stdout.close()
    assert ends(worker, 10)
