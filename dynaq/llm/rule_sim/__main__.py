"""Serve the offline stand-in rule-sim-v1 on loopback; its base URL is the one line of output."""

from __future__ import annotations

import argparse
import logging
import socket
import sys

import uvicorn

from dynaq.errors import ConfigError
from dynaq.llm.rule_sim.behaviour import Behaviour
from dynaq.llm.rule_sim.server import create_app


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(prog="python -m dynaq.llm.rule_sim", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument(
        "--behaviour", default="{}", metavar="JSON", help="bias and faults: the attributes of Behaviour as an object"
    )
    options = parser.parse_args()
    try:
        behaviour = Behaviour.from_json(options.behaviour)
    except ConfigError as error:
        parser.error(str(error))
    listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    # Inherited by connections; without it a reply, written as head and body, waits 40 ms for a delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}/v1\n")
    sys.stdout.flush()
    app = create_app(behaviour)
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off")
    logging.getLogger("uvicorn.error").addFilter(_unless_dropped_on_purpose)
    _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Wakes the requests that hang, or it would wait for them."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.app.state.stopping.set()  # type: ignore[union-attr]
        await super().shutdown(sockets)


def _unless_dropped_on_purpose(record: logging.LogRecord) -> bool:
    return record.msg != "ASGI callable returned without completing response."


if __name__ == "__main__":
    main()
