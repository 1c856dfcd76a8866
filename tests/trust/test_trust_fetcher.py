"""The way to a TUF repository: certificates and proxies as for everything else."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError

from accordion.errors import UsageError
from accordion.outside import CACERT_VARIABLE
from accordion.trust.tuf_fetcher import BoundedFetcher
from certificates import Pair, make_pair

WITHIN_S = 60.0
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *map(str.lower, PROXIES), "REQUEST_METHOD", "SSL_CERT_FILE", CACERT_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"))


class Handler(http.server.BaseHTTPRequestHandler):
    """Says what it was asked for, which at a proxy is a whole address."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients who do not trust it leave in the middle


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
        yield made
        made.shutdown()


def fetched(url: str) -> bytes:
    return b"".join(BoundedFetcher(WITHIN_S).fetch(url))


def test_a_private_authority(server: Server, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.server_port}/tuf/timestamp.json"
    with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
        fetched(url)
    monkeypatch.setenv(CACERT_VARIABLE, str(pair.authority))
    assert fetched(url) == b"/tuf/timestamp.json"
    monkeypatch.setenv(CACERT_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no file of certificates"):
        fetched(url)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_proxies(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    here = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv(variable, here)
    assert fetched("http://elsewhere.invalid/timestamp.json") == b"http://elsewhere.invalid/timestamp.json"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert fetched(f"{here}/timestamp.json") == b"/timestamp.json"
    (tmp_path / "timestamp.json").write_bytes(b"{}")
    assert fetched((tmp_path / "timestamp.json").as_uri()) == b"{}"
    monkeypatch.setenv(variable, "socks5://proxy:1")
    with pytest.raises(DownloadError, match="names no proxy that can be used"):
        fetched("http://elsewhere.invalid/timestamp.json")
