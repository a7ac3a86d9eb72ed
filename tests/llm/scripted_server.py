"""A server on loopback that answers as a test's script says, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = Callable[[int], "Response"]
"""Number of the request, from 0 -> what to answer; a script may also sleep."""


@dataclass
class Response:
    """Status, body and extra headers; ``cut`` drops the connection that many bytes into the body."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    cut: int | None = None


def completion(content: Any = None, finish: str = "stop", **message: Any) -> Response:
    """A chat completion; without content, a label that applies with 0.2."""
    if content is None:
        content = json.dumps({"apply": 0.2, "save": 0.3, "ignore": 0.5, "reason": "skills"})
    body = {
        "model": "gpt-x-2025",
        "choices": [{"message": {"content": content, **message}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 20},
    }
    return Response(200, json.dumps(body).encode())


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Response:
    return Response(
        status,
        json.dumps({"error": {"message": message, "code": code}}).encode(),
        {"Content-Type": "application/json", **headers},
    )


@dataclass
class Served:
    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0


class _Server(ThreadingHTTPServer):
    request_queue_size = 64


@contextmanager
def serving(script: Script) -> Iterator[Served]:
    """Serve until the end of the block."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(served.asked)
                served.asked.append(body)
                served.paths.append(self.path)
                served.headers.append({name.lower(): value for name, value in self.headers.items()})
                served.in_flight += 1
                served.most_in_flight = max(served.most_in_flight, served.in_flight)
            try:
                answer = script(number)
            finally:
                with lock:
                    served.in_flight -= 1
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])
            self.close_connection = answer.cut is not None

        def log_message(self, *_: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
