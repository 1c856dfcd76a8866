"""A link as a process: real TCP connections to a server, whose answers pass no faster than a rate and a round trip later.

    with paced("http://127.0.0.1:8642", 10e6, 0.02) as url: ...

All connections share the rate (a token bucket). What a client sends waits a round trip, the first of a connection two: one for the
handshake, which the kernel has done at once. What is on its way lies in the kernel's buffers, as on a real link.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

GRAIN_S = 0.002  # of the rate's time in one piece
LARGEST = 2**17
BURST_S = 0.004  # an idle or a late link catches up by so much


class Bucket:
    """When bytes have crossed a link of `rate_bps` (0: at once)."""

    def __init__(self, rate_bps: float) -> None:
        self.rate_bps = rate_bps
        self._lock = threading.Lock()
        self._free_at = 0.0

    def cross(self, count: int) -> None:
        """Returns when these bytes have crossed."""
        if not self.rate_bps:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() - BURST_S) + count * 8 / self.rate_bps
            wait = self._free_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)


def serve(port: int, rate_bps: float, rtt_s: float) -> None:
    """Says its own port, and goes on until it is killed."""
    bucket = Bucket(rate_bps)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            client, _ = listening.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=up, args=(client, server, rtt_s), daemon=True).start()
            threading.Thread(target=down, args=(server, client, bucket), daemon=True).start()


def up(client: socket.socket, server: socket.socket, rtt_s: float) -> None:
    known = time.monotonic() + rtt_s  # when the client would know that it is connected
    with contextlib.suppress(OSError):
        while data := client.recv(LARGEST):
            time.sleep(max(0.0, known - time.monotonic()) + rtt_s)
            server.sendall(data)
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_WR)


def down(server: socket.socket, client: socket.socket, bucket: Bucket) -> None:
    grain = min(LARGEST, max(1024, int(bucket.rate_bps * GRAIN_S / 8))) if bucket.rate_bps else LARGEST
    buffer = memoryview(bytearray(grain))
    with contextlib.suppress(OSError):
        while count := server.recv_into(buffer):
            bucket.cross(count)
            client.sendall(buffer[:count])
    for end in (client, server):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def paced(url: str, rate_bps: float, rtt_s: float, *, nice: int = 0) -> Iterator[str]:
    """Where the server at `url` answers through such a link (rate 0: without limit), in a process of that priority."""
    command = [sys.executable, __file__, str(urlsplit(url).port), str(rate_bps), str(rtt_s), str(nice)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


if __name__ == "__main__":
    os.nice(int(sys.argv[4]))
    serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
