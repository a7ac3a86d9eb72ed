"""A real receiver of notices, as Slack's webhooks are."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

from flows.children import free_port


class Receiver:
    """What a webhook was sent, while it is up; its address holds a secret."""

    def __init__(self) -> None:
        self.port, self.got = free_port(), list[str]()
        self.at: list[datetime] = []
        self.address = f"http://127.0.0.1:{self.port}/services/S3ntinel"

    def __enter__(self) -> Receiver:
        got, at = self.got, self.at

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/json"
                got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
                at.append(datetime.now(UTC))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = HTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
