"""Serve the offline stand-in rule-sim-v1 on loopback; its base URL is the one line of output."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys

import uvicorn

from dynaq.llm.rule_sim.server import create_app


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(prog="python -m dynaq.llm.rule_sim", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--parent", type=int, help="process to die with")
    options = parser.parse_args()
    if options.parent is not None:
        _die_with(options.parent)
    listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    # Inherited by connections; without it a reply, written as head and body, waits 40 ms for a delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}/v1\n")
    sys.stdout.flush()
    server = uvicorn.Server(uvicorn.Config(create_app(), log_level="error", access_log=False, lifespan="off"))
    server.run(sockets=[listener])


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent is gone, be it by ``kill -9``; elsewhere do nothing."""
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call above
        sys.exit(0)


if __name__ == "__main__":
    main()
