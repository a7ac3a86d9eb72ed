"""The stand-in as a child process, for as long as a block runs."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from dynaq.errors import LabelError
from dynaq.llm.rule_sim.behaviour import Behaviour
from dynaq.processes import death_pact

_START_TIMEOUT_S = 60.0


@contextmanager
def rule_sim_server(behaviour: Behaviour | None = None) -> Iterator[str]:
    """Start the stand-in ``rule-sim-v1`` on a free loopback port and stop it at the end of the block.

    With a ``behaviour`` it departs from its rules or from good service; what a biased one says it signs as such.

    Linux kills the child when the thread that entered the block dies: enter and leave it in the same thread.

    Yields:
        The base URL, as ``rule_sim_endpoint`` wants it.

    Raises:
        LabelError: it did not start.
    """
    command = [sys.executable, "-m", "dynaq.llm.rule_sim"]
    if behaviour is not None:
        command += ["--behaviour", behaviour.to_json()]
    # A session of its own: Ctrl-C must not take it away from labels that are still being stored.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=death_pact(),
    )
    with child:
        try:
            yield _when_it_answers(child)
        finally:
            child.terminate()
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()


def _when_it_answers(child: subprocess.Popen[bytes]) -> str:
    assert child.stdout is not None
    base_url = child.stdout.readline().decode().strip()  # empty where the child died first
    address = urlsplit(base_url)
    try:
        if not address.hostname:
            raise ConnectionError
        connection = http.client.HTTPConnection(address.hostname, address.port or 0, timeout=_START_TIMEOUT_S)
        try:
            connection.request("GET", f"{address.path}/models")
            status = connection.getresponse().status
        finally:
            connection.close()
        if status != http.client.OK:
            raise ConnectionError
    except (OSError, http.client.HTTPException):
        raise LabelError(
            f"the offline LLM stand-in did not start (exit status {child.poll()}): its own message is above"
        ) from None
    return base_url
