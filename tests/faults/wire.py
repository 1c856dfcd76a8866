"""What goes wrong between a device and an endpoint: a proxy that cuts, and a server that answers as a test says."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["Cutter", "answering", "cutting"]


class Cutter:
    """A TCP proxy that ends every connection after `after` bytes of answers."""

    def __init__(self, port: int) -> None:
        self.port, self.after = port, 2**62
        self.passed = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    def close(self) -> None:
        """Takes no more connections."""
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near, self.after), daemon=True).start()

    def _carry(self, near: socket.socket, left: int) -> None:
        with near, socket.create_connection(("127.0.0.1", self.port)) as far:
            threading.Thread(target=self._ask, args=(near, far), daemon=True).start()
            try:
                while left > 0 and (data := far.recv(min(left, 65536))):
                    near.sendall(data)
                    left -= len(data)
                    self.passed += len(data)
            except OSError:
                pass
            for end in (near, far):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _ask(near: socket.socket, far: socket.socket) -> None:
        try:
            while data := near.recv(65536):
                far.sendall(data)
        except OSError:
            pass


@contextmanager
def cutting(port: int) -> Iterator[Cutter]:
    """A proxy in front of the endpoint at `port`."""
    made = Cutter(port)
    try:
        yield made
    finally:
        made.close()


Handler = http.server.BaseHTTPRequestHandler


@contextmanager
def answering(answer: Callable[[Handler], None]) -> Iterator[str]:
    """A server that answers every request by `answer(handler)`; the value is its address."""

    class Answering(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients leave in the middle, as they should."""

    with Server(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
