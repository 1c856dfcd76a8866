"""A server that has never seen this project's code: it serves a static export, and spoils answers as a seed says.

    python mutating_server.py DIRECTORY        prints its port, then serves /v2/seed-N/NAME/… out of DIRECTORY/v2/NAME/…

Seed 0 spoils nothing. Every other seed picks which answers are spoilt, and how: bits, lengths, ranges, statuses, headers, other
blobs, an older manifest, pages, redirects, silence. Standard library only.
"""

from __future__ import annotations

import json
import socketserver
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

HTML = b"<!doctype html><title>Welcome</title><p>Please log in to this network.</p>"
SILENCE_S = 3.0


class Answer:
    """Status, headers and body, as they go over the wire; `length` is what the header claims, None for none."""

    def __init__(self, status: int, body: bytes, **headers: str) -> None:
        self.status, self.body, self.length = status, body, len(body)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.raw: bytes | None = None  # instead of all that
        self.pause_s = 0.0
        self.claims = True


def honest(root: Path, name: str, rest: str, method: str, asked: str | None) -> Answer:
    """What a file server would say."""
    place = root / "v2" / name / rest
    if rest == "" or method == "POST" or not place.is_file() or ".." in rest:
        return Answer(404, b"not here", Content_Type="text/plain")
    data = place.read_bytes()
    if asked is None or not asked.startswith("bytes="):
        return Answer(200, data, Content_Type="application/octet-stream")
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
    return Answer(206, data[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(data)}")


def flip(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    body = bytearray(answer.body)
    for _ in range(rng.choice((1, 1, 8))):
        if body:
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    answer.body = bytes(body)


def truncate(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    answer.body = answer.body[: rng.randrange(len(answer.body) + 1)]
    if rng.random() < 0.5:
        answer.length = len(answer.body)


def extend(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    answer.body += rng.randbytes(rng.choice((1, 1000, 100_000)))
    if rng.random() < 0.5:
        answer.length = len(answer.body)


def lie_about_length(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    answer.length = rng.choice((0, 1, answer.length + 1, answer.length * 2 + 7, 2**62, -5))


def no_length(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    answer.claims = False
    if rng.random() < 0.5:
        truncate(answer, rng, root, name, rest)


def other_blob(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    blobs = sorted((root / "v2" / name / "blobs").iterdir())
    answer.body = rng.choice(blobs).read_bytes()
    answer.length = len(answer.body)


def other_manifest(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    manifests = sorted(path for path in (root / "v2" / name / "manifests").iterdir() if path.is_file())
    answer.body = rng.choice(manifests).read_bytes()
    answer.length = len(answer.body)


def wrong_manifest(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    try:
        value: Any = json.loads(answer.body)
    except ValueError:
        return
    if not isinstance(value, dict) or "layers" not in value:
        return
    layers = value["layers"]
    one, other = rng.randrange(len(layers)), rng.randrange(len(layers))
    kind = rng.randrange(5)
    if kind == 0:
        layers[one], layers[other] = layers[other], layers[one]
    elif kind == 1:
        layers[one]["digest"] = layers[other]["digest"]
    elif kind == 2:
        layers[one]["size"] = rng.choice((0, -1, 2**63, layers[one]["size"] + 1))
    elif kind == 3:
        layers[one]["mediaType"] = layers[other]["mediaType"]
    else:
        del layers[one]
    answer.body = json.dumps(value).encode()
    answer.length = len(answer.body)


def shift(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    by = rng.choice((1, 7, 512))
    answer.body = answer.body[by:] + rng.randbytes(min(by, len(answer.body)))
    if rng.random() < 0.3:
        answer.headers["Content-Range"] = f"bytes {by}-{by + len(answer.body) - 1}/{len(answer.body) + by}"


def whole_instead(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    place = root / "v2" / name / rest
    if place.is_file():
        answer.status, answer.body = 200, place.read_bytes()
        answer.length = len(answer.body)
        answer.headers.pop("Content-Range", None)


def page(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    answer.status, answer.body, answer.length = 200, HTML, len(HTML)
    answer.headers = {"Content-Type": "text/html"}


def status(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    answer.status = rng.choice((204, 206, 304, 400, 401, 403, 404, 409, 416, 429, 500, 503, 999, 102))


def redirect(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    where = rng.choice(
        ("file:///etc/passwd", "http://127.0.0.1:1/", "", "//", "http://[::", f"/v2/seed-0/{name}/{rest}", "?again", "\\")
    )
    answer.status = rng.choice((301, 302, 303, 307, 308))
    answer.headers["Location"] = where


def encoding(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    answer.headers["Content-Encoding"] = rng.choice(("zstd", "gzip", "br", "identity", "zstd, zstd", "?"))


def headers(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    name_ = rng.choice(("Docker-Content-Digest", "Content-Type", "Content-Range", "ETag", "Transfer-Encoding", "WWW-Authenticate"))
    answer.headers[name_] = rng.choice(("", "x" * 100_000, "sha256:" + "0" * 64, "bytes 0-0/1", "chunked", 'Bearer realm="', "é"))


def no_http(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    answer.raw = rng.choice(
        (b"", b"\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nA", rng.randbytes(500), b"HTTP/9.9 abc\r\n\r\n")
    )


def chunks(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    size = rng.choice((b"ffffffffffffffff", b"-1", b"zz", b"5", b"0"))
    answer.raw = head + size + b"\r\n" + answer.body


def silence(answer: Answer, rng: Random, root: Path, name: str, rest: str) -> None:
    answer.pause_s = SILENCE_S


ANYWHERE = (
    *(flip, flip, truncate, extend, lie_about_length, no_length, other_blob, shift, whole_instead, page, status, redirect),
    *(encoding, headers, no_http, chunks, silence),
)
PLANS = (b"{}", b"[]", b'{"manifest":1}', b'{"name":"x","manifest":"sha256:' + b"0" * 64 + b'","configuration":3}')


class Spoiler:
    """What one seed does: some kinds of request, from their n-th answer on or at it alone, in one way or two."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = Random(seed)
        self.honest = seed == 0
        self.where = rng.choice(("manifests", "stream", "blobs", "stream", "all", "plan"))
        self.first, self.always = rng.randrange(3), rng.random() < 0.5
        self.ways = [rng.choice(ANYWHERE) for _ in range(rng.choice((1, 1, 2)))]
        if self.where == "manifests" and rng.random() < 0.5:
            self.ways = [rng.choice((other_manifest, wrong_manifest))]
        self.no_stream = rng.random() < 0.4  # as a plain registry, so that blobs are asked for one by one
        self.seen: Counter[str] = Counter()

    def answer(self, root: Path, name: str, rest: str, method: str, asked: str | None) -> Answer:
        kind = next((one for one in ("manifests", "stream", "blobs", "plan") if one in rest), "other")
        made = honest(root, name, rest, method, asked)
        if self.honest:
            return made
        if kind == "stream" and (self.no_stream or self.where == "blobs"):
            return Answer(404, b"no")
        if kind == "plan" and self.where == "plan":
            return Answer(200, self.rng.choice(PLANS), Content_Type="application/json")
        if self.where in (kind, "all"):
            turn = self.seen[kind]
            self.seen[kind] += 1
            if turn >= self.first if self.always else turn == self.first:
                for way in self.ways:
                    way(made, self.rng, root, name, rest)
        return made


class Server(socketserver.ThreadingTCPServer):
    """`spoilers` keeps what each seed has done so far."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.spoilers: dict[int, Spoiler] = {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients leave in the middle, as they should."""


class Handler(socketserver.StreamRequestHandler):
    """One request a connection."""

    def handle(self) -> None:
        line = self.rfile.readline(10_000).decode("latin-1").split()
        asked: dict[str, str] = {}
        while (row := self.rfile.readline(100_000).decode("latin-1").strip()) != "":
            key, _, value = row.partition(":")
            asked[key.lower()] = value.strip()
        self.rfile.read(int(asked.get("content-length", "0")))
        if len(line) < 2:
            return
        self.say(self.answer(line[0], line[1].partition("?")[0], asked.get("range")))

    def answer(self, method: str, path: str, asked: str | None) -> Answer:
        server: Any = self.server
        parts = path.strip("/").split("/")
        if len(parts) < 3 or not parts[1].startswith("seed-"):
            return Answer(200 if parts == ["v2"] else 404, b"{}")
        seed = int(parts[1].removeprefix("seed-"))
        spoiler = server.spoilers.setdefault(seed, Spoiler(seed))
        return spoiler.answer(server.root, parts[2], "/".join(parts[3:]), method, asked)

    def say(self, answer: Answer) -> None:
        if answer.raw is not None:
            self.wfile.write(answer.raw)
            return
        rows = [f"HTTP/1.1 {answer.status} OK", "Connection: close"]
        if answer.claims and answer.status not in (204, 304):
            rows.append(f"Content-Length: {answer.length}")
        rows += [f"{name}: {value}" for name, value in answer.headers.items()]
        self.wfile.write("\r\n".join(rows).encode("latin-1", "replace") + b"\r\n\r\n")
        half = len(answer.body) // 2
        self.wfile.write(answer.body[:half])
        self.wfile.flush()
        time.sleep(answer.pause_s)
        self.wfile.write(answer.body[half:])


if __name__ == "__main__":
    with Server(Path(sys.argv[1])) as running:
        print(running.server_address[1], flush=True)
        running.serve_forever()
