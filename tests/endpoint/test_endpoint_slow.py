from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from accordion.endpoint.limits import UNBOUNDED, Limits
from accordion.endpoint.slow import SlowReaders, available

pytestmark = pytest.mark.skipif(not available(), reason="this kernel doesn't tell")


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(the server's end, the client's end) with buffers that fill soon."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with socket.create_connection(listening.getsockname(), timeout=30) as client:
            server, _ = listening.accept()
            with server:
                server.setblocking(False)
                yield server, client


def fill(server: socket.socket) -> int:
    """Sends until nothing more goes."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            count += server.send(bytes(65536))
    return count


def open_still(client: socket.socket) -> bool:
    """Whether the server's end has not been closed behind what it sent."""
    client.setblocking(False)
    try:
        while client.recv(1 << 20):
            pass
    except BlockingIOError:
        return True
    except ConnectionResetError:  # what was not taken was thrown away
        pass
    return False


def in_the_kernel(client: tuple[str, int]) -> int:
    """Bytes that the kernel keeps on their way to this address."""
    place = f"0100007F:{client[1]:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[0], 16) for row in rows if row[2] == place)


def test_what_was_not_taken_leaves_the_kernel_with_the_connection() -> None:
    now = [0.0]
    watch = SlowReaders(8_000, 30, lambda: None, clock=lambda: now[0])
    with connection() as (server, client):
        fill(server)
        for now[0] in (1.0, 31.1):
            watch.look()
        assert in_the_kernel(client.getsockname()) > 0
        server.close()  # as the server does when it finds the connection shut
        assert in_the_kernel(client.getsockname()) == 0  # although the client never took anything


def test_who_takes_nothing_is_cut_off_and_nobody_else() -> None:
    now, cuts = [0.0], []
    watch = SlowReaders(8_000, 30, lambda: cuts.append(now[0]), clock=lambda: now[0])
    with connection() as (stuck, client), connection() as (idle, silent):
        fill(stuck)
        for now[0] in (1.0, 10.0, 30.9):
            watch.look()
        assert cuts == []
        now[0] = 31.1
        watch.look()
        assert cuts == [31.1]
        assert not open_still(client)
        idle.send(b"x")
        assert silent.recv(1) == b"x"
        assert open_still(silent)
        now[0] = 1000.0
        watch.look()
        assert cuts == [31.1]


def test_who_takes_enough_is_not() -> None:
    now, cuts = [0.0], []
    watch = SlowReaders(8_000, 30, lambda: cuts.append(now[0]), clock=lambda: now[0])
    with connection() as (server, client):
        fill(server)
        for now[0] in range(0, 600, 10):
            watch.look()
            taken = 0
            while taken < 200_000:  # far more than 1 kB a second
                taken += len(client.recv(65536))
            settle(server)
        assert cuts == []
        assert open_still(client)


def settle(server: socket.socket) -> None:
    """Waits until the kernel has taken the client's acknowledgement in, and fills up again."""
    waiting = threading.Event()
    for _ in range(200):
        if fill(server):
            return
        waiting.wait(0.01)


def test_connections_that_are_not_the_servers_are_left_alone() -> None:
    """As those to a registry: this process listens at no such port."""
    now, cuts = [0.0], []
    with socket.socket() as elsewhere:
        elsewhere.bind(("127.0.0.1", 0))
        elsewhere.listen()
        with socket.create_connection(elsewhere.getsockname()) as ours:
            there, _ = elsewhere.accept()
            with there:
                ours.setblocking(False)
                fill(ours)
                watch = SlowReaders(8_000, 30, lambda: cuts.append(now[0]), clock=lambda: now[0])
                for now[0] in (0.0, 100.0, 200.0):
                    watch.look()
                assert cuts == []


def test_it_runs_in_a_thread_and_ends() -> None:
    cut = threading.Event()
    watch = SlowReaders(1e9, 0.1, cut.set)
    watch.start()
    watch.stop()  # an application may be started again
    with connection() as (server, client):
        fill(server)
        watch.start()
        assert cut.wait(30)
        assert not open_still(client)
    watch.stop()


def test_which_limits_need_python() -> None:
    assert not Limits().through_python(kernel_tells=True)
    assert Limits().through_python(kernel_tells=False)
    assert Limits(client_transfers=1).through_python(kernel_tells=True)
    assert Limits(transfer_s=1).through_python(kernel_tells=True)
    assert not UNBOUNDED.through_python(kernel_tells=False)
