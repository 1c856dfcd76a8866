from __future__ import annotations

from typing import Any

import pytest

from accordion.endpoint.clients import Buckets, Clients, Proxies
from accordion.endpoint.limits import Limits
from accordion.errors import UsageError


def scope(address: str, *forwarded: str) -> dict[str, Any]:
    return {"type": "http", "client": (address, 1), "headers": [(b"x-forwarded-for", value.encode()) for value in forwarded]}


def test_a_bucket_fills_with_time_and_not_beyond_its_size() -> None:
    now = [0.0]
    buckets = Buckets(2.0, 3, clock=lambda: now[0])
    assert [buckets.take(b"a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take(b"b") == 0  # others are not concerned
    now[0] = 0.5
    assert [buckets.take(b"a") for _ in range(2)] == [0, 0.5]
    now[0] = 1e6
    assert [buckets.take(b"a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_memory_is_bounded_however_many_come() -> None:
    buckets = Buckets(1.0, 1, clock=lambda: 0.0, most=10)
    for index in range(1000):
        buckets.take(str(index).encode())
    assert len(buckets) == 10


@pytest.mark.parametrize(
    ("connected", "forwarded", "client"),
    [
        ("198.51.100.7", (), "198.51.100.7"),
        ("198.51.100.7", ("203.0.113.1",), "198.51.100.7"),  # a stranger's word
        ("10.0.0.1", ("203.0.113.1",), "203.0.113.1"),
        ("10.0.0.1", ("1.2.3.4, 203.0.113.1",), "203.0.113.1"),  # what the client itself wrote stands before
        ("10.0.0.1", ("1.2.3.4", "203.0.113.1, 10.0.0.2"), "203.0.113.1"),
        ("10.0.0.1", ("203.0.113.1, nonsense",), "10.0.0.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("::ffff:10.0.0.1", ("2001:db8:1:2:3::4",), "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", (), "2001:db8:1:2::/64"),
        ("unix", (), "unix"),
    ],
)
def test_which_address_counts(connected: str, forwarded: tuple[str, ...], client: str) -> None:
    assert Proxies(["10.0.0.0/8", "::1"]).client_of(scope(connected, *forwarded)) == client


def test_names_tell_clients_apart_and_say_nothing() -> None:
    clients, others = Clients(), Clients()
    name = clients.name(scope("198.51.100.7"), None)
    assert name == clients.name(scope("198.51.100.7"), None)
    assert name != clients.name(scope("198.51.100.8"), None)
    assert clients.name(scope("198.51.100.7"), "phones") == clients.name(scope("198.51.100.8"), "phones")
    assert clients.name(scope("198.51.100.7"), "198.51.100.7") != name
    assert name != others.name(scope("198.51.100.7"), None)  # another process could not say who that is
    assert b"198" not in name


def test_transfers_are_counted() -> None:
    clients = Clients(transfers=3, client_transfers=2)
    assert [clients.begin(b"a"), clients.begin(b"a"), clients.begin(b"a")] == [None, None, "client_transfers"]
    assert [clients.begin(b"b"), clients.begin(b"c")] == [None, "transfers"]
    clients.end(b"a")
    assert clients.begin(b"a") is None
    for client in (b"a", b"a", b"b"):
        clients.end(client)
    assert clients.underway == 0
    assert not clients._underway


def test_what_makes_no_sense() -> None:
    for text in ("proxy", "10.0.0.0/99", ""):
        with pytest.raises(UsageError):
            Proxies([text])
    for field in ("requests_per_s", "transfers", "min_rate_bps", "patience_s", "body_bytes", "ranges"):
        for value in (0, -1, float("inf"), float("nan")):
            with pytest.raises(UsageError, match=field):
                Limits(**{field: value})
