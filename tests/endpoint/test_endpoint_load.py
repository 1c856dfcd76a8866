"""What the endpoint knows of its own load, and what the kernel knows of a connection."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from urllib.parse import urlsplit

import pytest

from accordion.endpoint.connection import delivery_rate_bps
from accordion.endpoint.load import Load
from accordion.errors import UsageError


def test_bytes_are_scarce_near_the_capacity_until_it_is_quiet_again() -> None:
    now = [0.0]
    load = Load(8e6, clock=lambda: now[0])  # a megabyte a second
    assert load.scarce == "macs"
    for _ in range(400):  # twenty seconds at the capacity
        now[0] += 0.05
        load.sent(50_000)
    assert load.rate_bps == pytest.approx(8e6, rel=0.1)
    assert load.scarce == "bytes"
    now[0] += 2.5  # at 70 % it is still busy, so as not to flutter
    assert load.scarce == "bytes"
    now[0] += 20
    assert load.scarce == "macs"
    now[0] -= 3600  # a clock that jumps back
    assert load.rate_bps >= 0
    assert load.scarce == "macs"


def test_without_a_stated_capacity_nothing_is_scarce() -> None:
    load = Load()
    load.sent(10**12)
    assert load.scarce == "macs"
    for capacity in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError):
            Load(capacity)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_the_kernel_says_how_fast_it_delivered_and_the_connection_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        served, _ = listening.accept()
        with client, served:
            assert delivery_rate_bps(served.getpeername(), served.getsockname()) is None  # nothing was delivered yet
            for _ in range(40):
                served.sendall(bytes(32_768))
                left = 32_768
                while left:
                    left -= len(client.recv(left))
            assert (delivery_rate_bps(served.getpeername(), served.getsockname()) or 0) > 1e5
            assert delivery_rate_bps(("127.0.0.1", 1), served.getsockname()) is None
            served.sendall(b"still there")
            assert client.recv(100) == b"still there"
    assert delivery_rate_bps(None, None) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_a_plan_assumes_what_the_connection_carried(served: str) -> None:
    address = urlsplit(served)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)

    def ask(method: str, path: str, body: bytes | None = None) -> bytes:
        connection.request(method, path, body)
        return connection.getresponse().read()

    first = json.loads(ask("POST", "/v2/long/_accordion/plan", b"{}"))
    assert first["assumed_throughput_bps"] == 10e6
    stream = f"/v2/long/_accordion/stream/{first['manifest']}"
    size = 0
    while size < 1_000_000:
        size += len(ask("GET", stream))
    again = json.loads(ask("POST", "/v2/long/_accordion/plan", b"{}"))
    assert again["assumed_throughput_bps"] != 10e6
    # Whoever comes new is not known by what others' connections carried.
    connection.close()
    assert json.loads(ask("POST", "/v2/long/_accordion/plan", b"{}"))["assumed_throughput_bps"] == 10e6
    assert "assumed_throughput_bps" not in json.loads(ask("POST", "/v2/long/_accordion/plan", b'{"throughput_bps": 1e6}'))
    connection.close()
