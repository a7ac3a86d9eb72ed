"""Serve the offline stand-in rule-sim-v1 on loopback; its base URL is the one line of output."""

from __future__ import annotations

import argparse
import socket
import sys

import uvicorn

from dynaq.llm.rule_sim.server import create_app


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(prog="python -m dynaq.llm.rule_sim", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    # Inherited by connections; without it a reply, written as head and body, waits 40 ms for a delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}/v1\n")
    sys.stdout.flush()
    server = uvicorn.Server(uvicorn.Config(create_app(), log_level="error", access_log=False, lifespan="off"))
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
