"""Attacks on a running endpoint over real sockets, each by its name: none gets what it is after, and others are served meanwhile."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

HEADER_S = 2.0  # what the endpoint below allows; the tests wait for it, and never measure
WAIT_S = 60.0  # a bound for busy machines
LARGE = 40_000_000


@dataclass(frozen=True)
class Victim:
    """A running endpoint, and what it wrote."""

    url: str
    port: int
    log: Path
    package: Any
    secret: str

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S) as made:
            yield made

    def raw(self, data: bytes) -> bytes:
        """Everything that comes back until the endpoint closes the connection."""
        with self.connection() as made:
            with suppress(OSError):  # refused while it was sent; the answer may be there all the same
                made.sendall(data)
            return everything(made)

    def alive(self) -> bool:
        return httpx.get(f"{self.url}/healthz", timeout=WAIT_S).status_code == 200


def everything(made: socket.socket) -> bytes:
    found = b""
    try:
        while piece := made.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]).encode("latin-1")


def status(answer: bytes) -> int:
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(match[1]) if match else 0


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """One endpoint for all attacks."""
    from small_packages import add_version  # type: ignore[import-not-found]

    from accordion.artifact.layout import Layout

    root = tmp_path_factory.mktemp("hostile")
    (root / "packages").mkdir()
    (root / "secret.txt").write_text("nobody may read this")
    manifest = add_version(Layout.create(root / "packages" / "net"), "latest", [b"first", bytes(LARGE)])
    log = root / "log"
    options = [
        "--port",
        "0",
        "--json",
        "--log",
        "json",
        "--header-time",
        f"{HEADER_S}s",
        "--header-size",
        "16KiB",
        "--body-size",
        "4kB",
    ]
    options += ["--body-time", "2s", "--patience", "2s", "--min-rate", "1Gbps", "--connections", "64", "--transfers", "20"]
    with log.open("wb") as said:
        command = [sys.executable, "-m", "accordion.cli", "serve", str(root / "packages"), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, env=dict(os.environ))
    assert process.stdout is not None
    try:
        lines = b""
        while not lines.strip().endswith(b"}"):
            piece = process.stdout.readline()
            assert piece, log.read_text()
            lines += piece
        url = str(json.loads(lines)["url"])
        yield Victim(url, int(url.rpartition(":")[2]), log, manifest, "nobody may read this")
    finally:
        process.terminate()
        process.wait(WAIT_S)
        process.stdout.close()


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/v2/../../secret.txt", "/v2/net/blobs/../../../secret.txt", "/v2/net/blobs/%2e%2e%2f%2e%2e%2fsecret.txt",
        "/v2/..%2f..%2fsecret.txt", "/v2/net/../../secret.txt", "/v2/net%00/tags/list", "//secret.txt", "/v2/net/blobs//etc/passwd",
        "/v2//etc/passwd/blobs/x", "/v2/net/manifests/..", "/v2/net/manifests/%2fetc%2fpasswd", "/v2/net/blobs/sha256:../../index.json",
        "/v2/net/_accordion/stream/../../../secret.txt", "/%c0%ae%c0%ae/secret.txt", "/v2/net/blobs/sha256:" + "0" * 64 + "/../../x",
        "/v2/net\\..\\..\\secret.txt", "http://elsewhere/../secret.txt", "*",
    ],
)  # fmt: skip
def test_path_traversal(victim: Victim, path: str) -> None:
    answer = victim.raw(get(path))
    assert status(answer) in (400, 404, 405)
    assert victim.secret.encode() not in answer
    assert b"root:" not in answer
    assert str(victim.log.parent).encode() not in answer  # nor where packages lie


@pytest.mark.parametrize(
    ("name", "request_bytes", "statuses"),
    [
        ("a header without end", b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n", {431}),
        ("a path without end", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {414, 431}),
        ("a thousand headers", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"A: 1\r\n" * 1000 + b"\r\n", {431}),
        ("a zero byte in a header", b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", {400}),
        ("a header name with a space", b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n", {400}),
        ("a folded header", b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", {400}),
        ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00" + b"\xff" * 500, {0, 400}),
        ("HTTP/2 without being asked", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 100, {0, 400}),
        ("two lengths", b"POST /v2/net/_accordion/plan HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", {400}),
        ("a negative length", b"POST /v2/net/_accordion/plan HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", {400}),
        ("an impossible chunk", b"POST /v2/net/_accordion/plan HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", {400}),
        ("a chunk of 2^64", b"POST /v2/net/_accordion/plan HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", {400}),
    ],
)  # fmt: skip
def test_header_abuse(victim: Victim, name: str, request_bytes: bytes, statuses: set[int]) -> None:
    assert status(victim.raw(request_bytes)) in statuses
    assert victim.alive()


def test_request_smuggling_behind_two_lengths_of_different_kinds(victim: Victim) -> None:
    """Content-Length and Transfer-Encoding at once: whatever follows must not become a request of its own."""
    hidden = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /v2/net/_accordion/plan HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert victim.raw(head + hidden).count(b"HTTP/1.1 ") == 1


def test_a_body_larger_than_allowed(victim: Victim) -> None:
    plan = "/v2/net/_accordion/plan"
    answer = victim.raw(get(plan, "Content-Length: 100000", method="POST") + b" " * 100_000)
    assert status(answer) == 413
    assert b"\r\nconnection: close\r\n" in answer.lower()  # so that no client asks over it again
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    assert status(victim.raw(get(plan, "Transfer-Encoding: chunked", method="POST") + chunk * 50)) == 413


def test_a_body_where_none_belongs(victim: Victim) -> None:
    """It is not read: the answer does not wait for it."""
    for method, path, expected in (
        ("GET", "/v2/", 200),
        ("POST", "/v2/net/blobs/uploads/", 405),
        ("PUT", "/v2/net/manifests/x", 405),
    ):
        assert status(victim.raw(get(path, "Content-Length: 10000000000", method=method) + b"x" * 1000)) == expected


def test_a_slow_head_does_not_hold_a_connection(victim: Victim) -> None:
    """Slowloris: a request that never ends, and one that never begins."""
    for begin in (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: ", b""):
        with victim.connection() as made:
            made.sendall(begin)
            assert status(everything(made)) in (0, 408)  # it is the endpoint that ends this: everything() waits for it


def test_a_slow_body_does_not_hold_a_connection(victim: Victim) -> None:
    with victim.connection() as made:
        made.sendall(get("/v2/net/_accordion/plan", "Content-Length: 100", method="POST") + b"{")
        answer = everything(made)
        assert status(answer) == 408
        assert b"\r\nconnection: close\r\n" in answer.lower()


def test_an_idle_connection_is_closed(victim: Victim) -> None:
    with victim.connection() as made:
        made.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = everything(made)
    assert status(answer) == 200


def test_a_reader_that_takes_nothing_is_cut_off(victim: Victim) -> None:
    for path in (f"/v2/net/_accordion/stream/{victim.package.digest}", f"/v2/net/blobs/{victim.package.layers[2].digest}"):
        with victim.connection() as made:
            made.sendall(get(path))
            before = cut(victim)
            end = time.monotonic() + WAIT_S
            while cut(victim) == before:
                assert time.monotonic() < end
                time.sleep(0.1)
            received = everything(made)
        assert status(received) == 200
        assert len(received) < LARGE  # what had been sent before, and no more
    assert victim.alive()


def cut(victim: Victim) -> float:
    """How many slow readers were cut off so far."""
    text = httpx.get(f"{victim.url}/metrics", timeout=WAIT_S).text
    match = re.search(r'^accordion_transfers_cut_total\{reason="slow"\} (\S+)$', text, re.MULTILINE)
    assert match is not None
    return float(match[1])


def lines(victim: Victim) -> list[Any]:
    """What the endpoint logged, without what the command itself said."""
    return [json.loads(line) for line in victim.log.read_text().splitlines() if line.startswith("{")]


def test_more_readers_than_there_are_places(victim: Victim) -> None:
    """Twenty places are taken by readers that take nothing; the next is told to come back, and then there is room again."""
    path = f"/v2/net/_accordion/stream/{victim.package.digest}"
    held = [socket.create_connection(("127.0.0.1", victim.port), timeout=WAIT_S) for _ in range(20)]
    try:
        for made in held:
            made.sendall(get(path))
        statuses = {status(made.recv(100)) for made in held}
        assert statuses <= {200, 503}
        assert victim.alive()
        end = time.monotonic() + WAIT_S
        while httpx.get(f"{victim.url}{path}", headers={"Range": "bytes=0-9"}, timeout=WAIT_S).status_code != 206:
            assert time.monotonic() < end
            time.sleep(0.2)
    finally:
        for made in held:
            made.close()


def test_more_connections_than_there_are_places(victim: Victim) -> None:
    """Who comes beyond waits until silent ones are closed, and is served then."""
    held = [socket.create_connection(("127.0.0.1", victim.port), timeout=WAIT_S) for _ in range(100)]
    try:
        assert victim.alive()
    finally:
        for made in held:
            made.close()


def test_pipelined_requests(victim: Victim) -> None:
    """They are answered one after the other, in order, however many come at once."""
    asked = b"".join(f"GET /v2/net/manifests/{index} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for index in range(50))
    answer = victim.raw(asked + get("/v2/"))
    assert re.findall(rb"HTTP/1\.1 (\d{3})", answer) == [b"404"] * 50 + [b"200"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=" + ",".join("0-0" for _ in range(2000)), {200}), ("bytes=" + "9" * 5000 + "-", {200}), ("bytes=-", {200}),
        ("bytes=5-1", {200}), ("bytes=99999999999-", {416}), ("bytes=-0", {416}), ("lines=1-2", {200}), ("bytes=0-18446744073709551616", {200}),
        ("bytes=" + ",".join(f"{index * 2}-{index * 2}" for index in range(500)), {206}), ("bytes=0-0," * 400, {200}),
    ],
)  # fmt: skip
def test_ranges_without_end(victim: Victim, header: str, expected: set[int]) -> None:
    """What is sent is never more than the content and a bounded head for each range."""
    with victim.connection() as made:
        made.sendall(get(f"/v2/net/blobs/{victim.package.layers[0].digest}", f"Range: {header}"))
        answer = everything(made)
    assert status(answer) in expected
    assert len(answer) < victim.package.layers[0].size + 500 * 200


def test_log_injection(victim: Victim) -> None:
    for path in ("/v2/net/manifests/%0d%0a%7B%22event%22:%22forged%22%7D", "/%1b%5b2J%0aforged"):
        victim.raw(
            get(path, "User-Agent: forged", "X-Request-Id: forged", "X-Forwarded-For: forged", "Authorization: Bearer forged")
        )
    text = victim.log.read_text()
    assert "forged" not in text
    assert "\x1b" not in text
    assert lines(victim)
    assert "Traceback" not in text


def test_methods_that_are_none(victim: Victim) -> None:
    for method in ("TRACE", "CONNECT", "PROPFIND", "A" * 100):
        assert status(victim.raw(get("/v2/net/manifests/latest", method=method))) in (400, 404, 405)
    assert b"forged" not in victim.raw(get("/v2/", "X-Forged: forged", method="TRACE"))


def test_nothing_of_all_this_was_a_failure(victim: Victim) -> None:
    """After every attack: no answer of this endpoint said that it had failed."""
    assert victim.alive()
    failed = [line for line in lines(victim) if line.get("status", 0) >= 500 and line["status"] != 503]
    assert failed == []
    assert not [line for line in lines(victim) if line.get("level") in ("error", "critical")]
