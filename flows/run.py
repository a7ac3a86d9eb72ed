"""One flow in this process: ``python -m flows.run <flow> <config> <overrides as JSON>``.

``python -m flows`` starts it, in a session of its own. SIGINT ends the flow in order; SIGTERM, which also comes when
whoever started it is gone, ends it at once, inside a flow as Prefect does: what is on disk is whole or absent.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from html import unescape
from pathlib import Path
from typing import Any

from dynaq.errors import DynaqError

_GRACE_S = 20.0  # to end in order


def main(name: str, config: str, overrides: dict[str, Any]) -> int:
    """Run a flow and print what it ends with; returns the exit status."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
        threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even where whoever started us ignores it
    started = time.perf_counter()
    try:
        result = getattr(importlib.import_module(f"flows.{name}"), name)(config, overrides)
    except DynaqError as error:
        print(f"dynaq: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if name in ("compare", "nightly"):
        _print_report(result, config)
    if name in ("canaries", "rollback"):
        print(result)
    print(f"{name} finished in {time.perf_counter() - started:.0f} s")
    return 0


def _end_with(parent: int) -> None:
    """End this process and its workers some time after whoever started it is gone.

    It has had SIGTERM by then, which Prefect turns into an exception; raised where exceptions are dropped, that ends
    nothing, and a night that everybody takes for dead would go on.
    """
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(_GRACE_S)
    os.killpg(0, signal.SIGKILL)


def _print_report(directory: Path, config: str) -> None:
    """The verdict, what a reader must know first, and what the four agents earned."""
    before, _, after = unescape((directory / "report.md").read_text()).partition("\n## The four agents\n")
    for line in before.splitlines():
        if line.startswith(("# ", "**", ">")):
            print(line)
    tables = after.partition("**What they miss")[0]
    print(*(line for line in tables.splitlines() if line.startswith("|")), sep="\n")
    print(f"\nReport: {directory / 'report.html'}")
    print(f"Pages of MLflow and Prefect: make services CONFIG={config}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
