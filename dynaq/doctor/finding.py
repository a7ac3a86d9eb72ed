"""What a check has seen, and how a check is kept from hanging or breaking the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dynaq.errors import DynaqError


@dataclass(frozen=True)
class Finding:
    """What a check has seen.

    Attributes:
        status: ``warn``: the night runs, but not as one may think; ``FAIL``: it does not run.
        seen: what there is.
        todo: what to do about it.
    """

    status: Literal["ok", "warn", "FAIL"]
    seen: str
    todo: str = ""

    def line(self, name: str) -> str:
        """Everything in one line."""
        return f"{self.status:<4}  {name}: " + " ".join("; ".join(filter(None, (self.seen, self.todo))).split())


Check = Callable[[], Finding]


def examine(check: Check, limit_s: float) -> Finding:
    """Run a check; one that raises or takes longer than the limit has failed, and is left behind."""
    found: list[Finding] = []

    def run() -> None:
        try:
            found.append(check())
        except DynaqError as error:
            found.append(Finding("FAIL", str(error)))
        except BaseException as error:  # the words of a foreign error may hold an address or a key
            found.append(Finding("FAIL", f"the check broke off with {type(error).__name__}"))

    # No pool: it would wait for what hangs when the program ends.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    return found[0] if found else Finding("FAIL", f"no answer within {limit_s:g} s", "see what it hangs on")
