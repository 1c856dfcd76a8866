"""A package of two versions behind a file server that can be told to lie, and what a test wants to know of a model folder."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from accordion.artifact.layout import Layout
from accordion.device import Model
from accordion.endpoint import export
from accordion.errors import AccordionError
from accordion.trust import Trust
from accordion.trust.keys import PrivateKey
from accordion.trust.signature import add_signature
from accordion.trust.statement import Statement

GOLDEN = Path(__file__).parents[1] / "golden"
NAME = "net"


class Shop:
    """The package `net` with versions v1 and v2, and a mirror of what was published of it."""

    def __init__(self, folder: Path) -> None:
        self.package, self.static = folder / NAME, folder / "static"
        shutil.copytree(GOLDEN / "versions", self.package)
        self.layout = Layout.open(self.package)
        self.answers: dict[str, bytes | Callable[[Any], None]] = {}  # path → what is answered instead of the file
        self.asked: list[str] = []
        self.url = ""

    def digest(self, tag: str) -> str:
        return self.layout.resolve(tag).digest

    def name(self, tag: str, as_tag: str) -> None:
        """Lets another tag name a version."""
        self.layout.add_version(as_tag, self.layout.manifest(tag))

    def sign(self, tag: str, key: PrivateKey, sequence: int | None = 1, *, name: str = NAME, tags: tuple[str, ...] = ()) -> None:
        manifest = self.layout.manifest(tag)
        add_signature(self.layout, manifest, Statement(manifest.digest, name, tags, sequence), key, 1_700_000_000)

    def publish(self) -> None:
        export(self.package, self.static)

    def file(self, path: str) -> bytes:
        """What was published under /v2/net/…"""
        return (self.static / "v2" / NAME / path).read_bytes()

    def lie(self, path: str, answer: bytes | Callable[[Any], None]) -> None:
        self.answers[f"/v2/{NAME}/{path}"] = answer

    @property
    def source(self) -> str:
        return f"{self.url}/{NAME}"


def drip(handler: Any) -> None:
    """Never an end, never a silence: a byte every now and then."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def endless(handler: Any) -> None:
    """As fast as it goes, for ever."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


@contextmanager
def opened(tmp_path: Path) -> Iterator[Shop]:
    """The shop, with its file server answering."""
    made = Shop(tmp_path)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            answer = made.answers.get(self.path)
            path = made.static / self.path.removeprefix("/")
            if callable(answer):
                answer(self)
                return
            data = answer if answer is not None else path.read_bytes() if path.is_file() else None
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients leave in the middle, as they should

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        made.url = f"http://127.0.0.1:{server.server_port}"
        yield made
        server.shutdown()


def runs(model: Path, trust: Trust, tag: str, golden: str = "versions") -> None:
    """Asserts that every configuration that is there answers as this version's golden answers say."""
    rows = json.loads((GOLDEN / golden / "expected.json").read_text())["versions"][tag]
    with Model.open(model, trust=trust) as opened:
        assert opened.configuration is not None
        for k in range(opened.configuration + 1):
            tensors = {name: np.array(one["values"], one["dtype"]).reshape(one["shape"]) for name, one in rows[k]["inputs"].items()}
            answers = opened.run(tensors, k)
            for name, one in rows[k]["outputs"].items():
                np.testing.assert_allclose(answers[name].ravel(), one["values"], rtol=1e-5, atol=1e-5)


def nothing_runs(model: Path, trust: Trust) -> bool:
    """Whether there is nothing in the folder that would run."""
    try:
        with Model.open(model, trust=trust) as opened:
            return opened.configuration is None
    except AccordionError:
        return True
