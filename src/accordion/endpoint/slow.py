"""Readers that are too slow, seen from the kernel: what a connection still has to send, and how much of it arrived of late.

A file that the server sends by itself never comes into Python, so nothing there can watch it. The kernel knows of each connection
what the other side has acknowledged; who acknowledges too little is cut off. Where the kernel doesn't tell (anywhere but on Linux),
`available` is false, and files pass through Python.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from accordion.endpoint.connection import BYTES_ACKED_AT, INFO_BYTES

__all__ = ["SlowReaders", "available"]

LOG = logging.getLogger("accordion.endpoint")
LOOKS = 4  # in the time that a reader is given: it is cut off at most a quarter later
LEAST_S = 0.05  # between two looks
# When the server closes it, what was not taken is thrown away. Else the kernel would keep it, megabytes of each connection, for as
# long as the other side answers that it takes nothing just now.
_AT_ONCE = struct.pack("ii", 1, 0)
_LISTEN, _OPEN = 10, (1, 8)  # of tcpi_state: established, and closed by the other side only


def available() -> bool:
    """Whether this machine's kernel tells."""
    return sys.platform.startswith("linux") and os.path.isdir("/proc/self/fd")  # noqa: PTH112  asked once


@dataclass(slots=True)
class _Span:
    """Since when a connection has had something to send, and what had been acknowledged then."""

    since: float
    acked: int


class SlowReaders:
    """Looks at this process's own server connections, in a thread. It reads numbers and remembers no addresses.

    Who, over `patience_s`, has acknowledged less than `min_rate_bps` while there was something to send, is cut off. `cut` hears of
    it.
    """

    def __init__(
        self, min_rate_bps: float, patience_s: float, cut: Callable[[], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._least, self._patience_s, self._cut, self._clock = min_rate_bps / 8, patience_s, cut, clock
        self._ports: set[int] = set()
        self._spans: dict[int, _Span] = {}  # by the socket's inode, which is its own for as long as it lives
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to look; also again, after a stop."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._work, name="slow readers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def look(self) -> None:
        """One look at all connections."""
        if not self._ports:
            self._ports = {int(one.getsockname()[1]) for one, state, _ in _connections() if state == _LISTEN}
        now, before, self._spans = self._clock(), self._spans, {}
        for one, state, acked in _connections():
            if state not in _OPEN or one.getsockname()[1] not in self._ports or not _unsent(one):
                continue
            inode = os.fstat(one.fileno()).st_ino
            span = before.get(inode) or _Span(now, acked)
            if now - span.since >= self._patience_s:
                if acked - span.acked < self._least * (now - span.since):
                    with suppress(OSError):
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                        one.shutdown(socket.SHUT_RDWR)
                    LOG.info("a reader was cut off: too slow")
                    self._cut()
                    continue
                span = _Span(now, acked)
            self._spans[inode] = span

    def _work(self) -> None:
        while not self._stopping.wait(max(LEAST_S, self._patience_s / LOOKS)):
            try:
                self.look()
            except OSError as error:  # out of descriptors, most likely: the next look may have some
                LOG.warning("can't look for slow readers: %s", error.strerror or error)


def _connections() -> Iterator[tuple[socket.socket, int, int]]:
    """(socket, state, bytes acknowledged) of each TCP socket.

    Each is a descriptor of its own while it is looked at, so that nothing else can take its number meanwhile.
    """
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  names are all that is wanted
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):  # noqa: PTH115  there may be thousands
                continue
            duplicate = os.dup(int(name))
        except OSError:
            continue  # it has been closed
        try:
            one = socket.socket(fileno=duplicate)
        except OSError:
            os.close(duplicate)
            continue
        with one:
            if one.type != socket.SOCK_STREAM or one.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            try:
                info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
            except OSError:
                continue
            if len(info) == INFO_BYTES:
                yield one, info[0], struct.unpack_from("Q", info, BYTES_ACKED_AT)[0]


def _unsent(one: socket.socket) -> int:
    """Bytes that wait to be sent or acknowledged."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(one.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0
