"""A TCP proxy before a real server, for a network that is slow, drops answers, or is gone."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy(socketserver.ThreadingTCPServer):
    """Passes on what it is sent.

    Attributes:
        port: where it listens.
        delay_s: before each piece of an answer is passed on.
        answers: pieces of answers that it passes on yet; then the server is asked, and its answer and the connection
            are dropped. None: all.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.port = int(self.server_address[1])
        self.delay_s, self.answers = 0.0, None  # type: float, int | None
        self._target, self._open = port, set[socket.socket]()

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            self._open |= {request, server}
            asking = threading.Thread(target=self._pass_on, args=[request, server, False], daemon=True)
            asking.start()
            self._pass_on(server, request, True)
            asking.join()

    def _pass_on(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                if answers:
                    time.sleep(self.delay_s)
                    if self.answers is not None:
                        if self.answers <= 0:
                            break
                        self.answers -= 1
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Drop the connections that are open."""
        for end in set(self._open):  # others join meanwhile
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """A proxy before a port of this machine."""
    with Proxy(port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            server.cut()
            thread.join()
