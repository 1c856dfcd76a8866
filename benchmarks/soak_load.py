"""The load of `soak.py`: real clients of every kind, friendly and hostile, and somebody who publishes meanwhile.

Each action ends with an outcome, and a tally counts them by kind. `failed` is what should not have happened: a friendly client
that did not get what it was promised, or an answer of 500 or above to anybody.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from packages import write_package  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.device import Fetch, Request, shed
from accordion.device.store import Store
from accordion.errors import AccordionError, UnmeetableError

__all__ = ["Load", "Publisher", "Tally"]

SIZES = (60_000, 200_000, 400_000)  # bytes of a package's first segments; the last one is another in each version
STEADY, MOVING = 8, 4  # packages that stay, and that come and go
KEPT = 3  # versions whose blobs stay when a newer one comes
PUBLISH_S = 20.0  # between two changes of packages
DEVICES = 16
AT_ONCE = 300  # actions; what would be more is not begun, and counted
ANSWER_S = 60.0  # for one answer, on a busy machine
CLOSE_S = 60.0  # in which the endpoint must have closed what a hostile client leaves open (header time 15 s, patience 30 s)

BAD_PATHS = (
    "/v2/../../../../etc/passwd",
    "/v2/%2e%2e/%2e%2e/etc/passwd",
    "/v2/steady-0/blobs/../../../index.json",
    "/v2/steady-0/blobs/sha256:" + "0" * 63,
    "/v2/steady-0/blobs/sha256:" + "0" * 64,
    "/v2/steady-0/manifests/%00",
    "/v2/steady-0/_accordion/stream/latest",
    "/v2/" + "a/" * 400 + "manifests/latest",
    "/v2/steady-0/manifests/" + "x" * 4000,
    "/v2//manifests/latest",
    "/v3/_catalog",
    "/tuf/../../etc/passwd",
    "/v2/steady-0/_accordion/nothing",
    "/v2/_catalog?n=many",
)
BAD_BODIES = (
    b"{",
    b"[]",
    b"null",
    b'{"deadline_s": -1}',
    b'{"deadline_s": NaN}',
    b'{"deadline_s": 1e999}',
    b'{"deadline_s": 1, "deadline_s": 2}',
    b'{"min_quality": "best"}',
    b'{"held": {"manifest": "sha256:0", "configuration": 0}}',
    b'{"held": 7}',
    b"\xff\xfe{}",
    b"[" * 20_000,
    b'{"reference": "no-such-tag"}',
    b'{"max_bytes": ' + b"9" * 4000 + b"}",
)
BAD_REQUESTS = (
    b"\x00\x01\x02\x03\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\n\r\n" + b"\xff" * 200,
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /v2/steady-0/_accordion/plan HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % k for k in range(300)) + b"\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    b"GET /" + b"z" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,  # TLS where none is spoken
)


class Unexpected(Exception):  # noqa: N818  becomes a failure in the tally
    """What should not have happened."""


@dataclass(slots=True)
class Tally:
    """Actions by kind and outcome, the first failures in words, and answers by status as the clients saw them."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    skipped: int = 0

    def count(self, kind: str, outcome: str) -> None:
        self.outcomes.setdefault(kind, Counter())[outcome] += 1

    def fail(self, kind: str, error: BaseException) -> None:
        self.count(kind, "failed")
        if len(self.failures) < 100:
            self.failures.append(f"{kind}: {type(error).__name__}: {error}"[:300])

    def answered(self, status: int) -> int:
        self.statuses[status] += 1
        if status >= 500:
            raise Unexpected(f"answered {status}")
        return status


class Publisher:
    """Packages in a folder: made at first, then published anew, taken away and brought back, and broken for a while."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self._rng = folder, rng
        self.names = [f"steady-{k}" for k in range(STEADY)] + [f"team/moving-{k}" for k in range(MOVING)]
        self.versions: dict[str, list[Manifest]] = {name: [] for name in self.names}
        self.away: dict[str, float] = {}  # moving packages that are gone, or broken, and since when
        self.returned: dict[str, float] = {}
        self._made = 0
        for name in self.names:
            self._publish(name)

    def may_be_gone(self, name: str, began: float) -> bool:
        """Whether a package was away at some moment since `began`."""
        return name in self.away or self.returned.get(name, -1e9) >= began - 5.0

    def knows(self, name: str, digest: str) -> bool:
        """Whether the blobs of this version are still there."""
        return name not in self.versions or digest in {one.digest for one in self.versions[name]}

    async def change(self) -> str:
        """One change; says which."""
        for name in list(self.away):
            if time.monotonic() - self.away[name] > PUBLISH_S / 2:
                await asyncio.to_thread(self._bring_back, name)
                self.returned[name] = time.monotonic()
                del self.away[name]
                return "brought back"
        name = self._rng.choice(self.names)
        moving = name not in self.names[:STEADY]
        if moving and self._rng.random() < 0.6:
            self.away[name] = time.monotonic()
            if self._rng.random() < 0.3:
                (self.folder / name / "index.json").write_text("{")  # not in one step, as a careless person would
                return "broken"
            (self.folder / name).rename(self.folder.parent / "away" / name.replace("/", "+"))
            return "taken away"
        await asyncio.to_thread(self._publish, name)
        return "published"

    def _bring_back(self, name: str) -> None:
        aside = self.folder.parent / "away" / name.replace("/", "+")
        if aside.exists():
            aside.rename(self.folder / name)
        else:
            (self.folder / name / "index.json").unlink()
            (self.folder / name / "oci-layout").unlink()
            for left in (self.folder / name).iterdir():
                shutil.rmtree(left)
            self.versions[name] = []
        self._publish(name)

    def _publish(self, name: str) -> None:
        self._made += 1
        path, last = self.folder / name, 300_000 + 256 * (self._made % 1000)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_package(path, [*SIZES, last], seed=self.names.index(name))
        kept = self.versions[name]
        kept.append(Layout.open(path).manifest("latest"))
        for one in kept[:-KEPT]:
            wanted = {layer.digest for other in kept[-KEPT:] for layer in (other.config, *other.layers)}
            for digest in {one.digest, *(layer.digest for layer in (one.config, *one.layers))} - wanted:
                Layout(path).blob_path(digest).unlink(missing_ok=True)
        del kept[:-KEPT]


class Load:
    """Begins an action about `rate` times a second, drawn by weight, until it is stopped."""

    def __init__(self, url: str, publisher: Publisher, zoo: list[str], folder: Path, rate: float, seed: int) -> None:
        self.url, self.publisher, self.rate = url, publisher, rate
        self.host, port = url.removeprefix("http://").split(":")
        self.port = int(port)
        self.rng = random.Random(seed)
        self.names = [*publisher.names, *zoo]
        self.big = zoo[0]
        self.tally = Tally()
        self.devices = [folder / f"device-{k}" for k in range(DEVICES)]
        self.busy: set[Path] = set()
        self.changes: Counter[str] = Counter()
        self._going: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """No new actions; those under way end."""
        self._stopping.set()

    async def run(self) -> None:
        """Returns when it was stopped and all actions have ended."""
        connector = aiohttp.TCPConnector(limit=60)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as self.session:
            publishing = asyncio.create_task(self._publish())
            actions = self._actions()
            kinds, weights = list(actions), [weight for weight, _ in actions.values()]
            while not self._stopping.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self.rng.expovariate(self.rate))
                    break
                if len(self._going) >= AT_ONCE:
                    self.tally.skipped += 1
                    continue
                kind = self.rng.choices(kinds, weights)[0]
                task = asyncio.create_task(self._act(kind, actions[kind][1]))
                self._going.add(task)
                task.add_done_callback(self._going.discard)
            publishing.cancel()
            await asyncio.gather(publishing, *self._going, return_exceptions=True)

    async def _publish(self) -> None:
        while True:
            await asyncio.sleep(PUBLISH_S * self.rng.uniform(0.5, 1.5))
            try:
                self.changes[await self.publisher.change()] += 1
            except Exception as error:  # a soak in which nothing changes any more would say too much
                self.tally.fail("publishing", error)

    async def _act(self, kind: str, action: Callable[[], Awaitable[str]]) -> None:
        try:
            self.tally.count(kind, await action())
        except Exception as error:  # whatever it is, it is what the soak is for
            self.tally.fail(kind, error)

    def _actions(self) -> dict[str, tuple[float, Callable[[], Awaitable[str]]]]:
        return {
            "plan": (30, self.plan),
            "manifest": (8, self.manifest),
            "whole blob": (8, self.blob),
            "stream": (6, lambda: self.stream(cut=False)),
            "stream, cut and resumed": (8, lambda: self.stream(cut=True)),
            "lists": (6, self.lists),
            "health, metrics": (4, self.health),
            "device": (8, self.device),
            "unknown name": (4, self.unknown),
            "bad path": (6, lambda: self.raw(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % self.rng.choice(BAD_PATHS).encode())),
            "bad plan": (5, self.bad_plan),
            "bad HTTP": (3, lambda: self.raw(self.rng.choice(BAD_REQUESTS))),
            "wrong method": (1, self.wrong_method),
            "body too long": (1, self.long_body),
            "many ranges": (1, self.many_ranges),
            "left open": (1, lambda: self.lingering(b"")),
            "slow head": (1, lambda: self.lingering(b"GET /v2/ HTTP/1.1\r\n", b"X-Slow: 1\r\n")),
            "slow body": (1, self.slow_body),
            "slow reader": (1, self.slow_reader),
        }

    # Friendly ---------------------------------------------------------------------------------------------------------------

    async def _get(self, path: str, **how: Any) -> tuple[int, bytes, Any]:
        async with self.session.get(self.url + path, **how) as answer:
            body = await answer.read()
            return self.tally.answered(answer.status), body, answer.headers

    def _expect(self, status: int, good: tuple[int, ...], name: str, began: float) -> bool:
        """Whether it is good; False for a package that is away at the moment."""
        if status in good:
            return True
        if status == 404 and self.publisher.may_be_gone(name, began):
            return False
        raise Unexpected(f"{name}: answered {status}")

    async def plan(self) -> str:
        name, began, rng = self.rng.choice(self.names), time.monotonic(), self.rng
        request: dict[str, Any] = {}
        if rng.random() < 0.8:
            request |= {"deadline_s": rng.uniform(0.05, 3), "throughput_bps": 10 ** rng.uniform(5, 9), "rtt_s": rng.uniform(0, 0.1)}
        if rng.random() < 0.2:
            request["max_bytes"] = int(10 ** rng.uniform(4, 7))
        known = self.publisher.versions.get(name)
        if known and rng.random() < 0.3:
            request["held"] = {"manifest": rng.choice(known).digest, "configuration": rng.randrange(4)}
        async with self.session.post(f"{self.url}/v2/{name}/_accordion/plan", json=request) as answer:
            status, data = self.tally.answered(answer.status), await answer.json(content_type=None)
        old = "held" in request and not self.publisher.knows(name, request["held"]["manifest"])
        if status == 422 and (old or self.publisher.may_be_gone(name, began)):
            return "gone"
        if not self._expect(status, (200, 409), name, began):
            return "gone"
        if status == 200 and sum(layer["size"] for layer in data["layers"]) != data["bytes_to_send"]:
            raise Unexpected("a plan contradicts itself")
        return "planned" if status == 200 else "unmeetable"

    async def _manifest(self, name: str, began: float) -> Manifest | None:
        status, body, headers = await self._get(f"/v2/{name}/manifests/latest", headers={"Accept-Encoding": "identity"})
        if not self._expect(status, (200,), name, began):
            return None
        return Manifest.parse(body, digest=headers["Docker-Content-Digest"])

    async def manifest(self) -> str:
        name = self.rng.choice(self.names)
        return "ok" if await self._manifest(name, time.monotonic()) is not None else "gone"

    async def blob(self) -> str:
        name, began = self.rng.choice(self.names), time.monotonic()
        manifest = await self._manifest(name, began)
        if manifest is None:
            return "gone"
        layer = self.rng.choice(manifest.layers)
        status, body, _ = await self._get(f"/v2/{name}/blobs/{layer.digest}")
        if not self._expect(status, (200,), name, began):
            return "gone"
        if f"sha256:{hashlib.sha256(body).hexdigest()}" != layer.digest:
            raise Unexpected(f"{name}: a blob is not what was promised")
        return "ok"

    async def stream(self, *, cut: bool) -> str:
        """All layers by the stream; with `cut` the connection is closed in the middle, once or twice, and the rest asked for."""
        name, began = self.rng.choice(self.names), time.monotonic()
        manifest = await self._manifest(name, began)
        if manifest is None:
            return "gone"
        got, total, cuts = bytearray(), manifest.offsets[-1], self.rng.randint(1, 2) if cut else 0
        path = f"{self.url}/v2/{name}/_accordion/stream/{manifest.digest}"
        while len(got) < total:
            until = self.rng.randrange(len(got), total) if cuts else total
            cuts -= 1
            try:
                async with self.session.get(path, headers={"Range": f"bytes={len(got)}-"}) as answer:
                    if not self._expect(self.tally.answered(answer.status), (206,), name, began):
                        return "gone"
                    async for piece in answer.content.iter_any():
                        got += piece
                        if len(got) > until:
                            answer.close()
                            break
            except aiohttp.ClientError as error:
                if self.publisher.may_be_gone(name, began) or not self.publisher.knows(name, manifest.digest):
                    return "gone"
                raise Unexpected(f"{name}: {error!r} after {len(got)} of {total} bytes") from error
        for layer, start in zip(manifest.layers, manifest.offsets, strict=False):
            if f"sha256:{hashlib.sha256(got[start : start + layer.size]).hexdigest()}" != layer.digest:
                raise Unexpected(f"{name}: a layer is not what was promised")
        return "ok"

    async def lists(self) -> str:
        name, began = self.rng.choice(self.names), time.monotonic()
        path = self.rng.choice(["/v2/_catalog", "/v2/_catalog?n=3", "/v2/", "/openapi.json", f"/v2/{name}/tags/list"])
        status, body, _ = await self._get(path)
        if not self._expect(status, (200,), name, began):
            return "gone"
        json.loads(body)
        return "ok"

    async def health(self) -> str:
        status, _, _ = await self._get(self.rng.choice(["/healthz", "/metrics"]))
        if status != 200:
            raise Unexpected(f"answered {status}")
        return "ok"

    async def device(self) -> str:
        """A device's next step: fetch, upgrade within its version or to the newest, shed, or thrown away."""
        free = [folder for folder in self.devices if folder not in self.busy]
        if not free:
            return "none free"
        folder, began, rng = self.rng.choice(free), time.monotonic(), self.rng
        self.busy.add(folder)
        name, version = "", None
        try:
            if not (folder / "state.json").exists():
                name = rng.choice(self.names)
                wish = rng.choice([Request(), Request(deadline_s=3.0, throughput_bps=1e8), Request(max_bytes=400_000)])
                return await self._deliver(Fetch(f"{self.url}/{name}", folder, wish), "fetched")
            store = await asyncio.to_thread(Store.open, folder)
            name, version = store.state.name, store.manifest.digest
            step = rng.choice(["upgrade", "newest", "shed", "away"])
            if step == "away":
                await asyncio.to_thread(shutil.rmtree, folder)
                return "thrown away"
            if step == "shed":
                await asyncio.to_thread(shed, folder, 0)
                return "shed"
            wish = Request(reference="latest") if step == "newest" else Request()
            return await self._deliver(Fetch.upgrade(folder, wish), "upgraded" if step == "upgrade" else "brought to the newest")
        except UnmeetableError:
            return "unmeetable"
        except AccordionError as error:
            if self.publisher.may_be_gone(name, began) or (version is not None and not self.publisher.knows(name, version)):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                return "gone"
            raise Unexpected(f"{name}: {type(error).__name__}: {error}") from error
        finally:
            self.busy.discard(folder)

    @staticmethod
    async def _deliver(delivery: Fetch, outcome: str) -> str:
        async with delivery:
            async for _ in delivery:
                pass
        _ = delivery.result
        return outcome

    # Hostile ----------------------------------------------------------------------------------------------------------------

    async def unknown(self) -> str:
        status, _, _ = await self._get(f"/v2/unknown-{self.rng.randrange(1000)}/manifests/latest")
        return self._refused(status)

    def _refused(self, status: int) -> str:
        if not 400 <= status < 500:
            raise Unexpected(f"answered {status}")
        return f"refused with {status}"

    async def bad_plan(self) -> str:
        body = self.rng.choice(BAD_BODIES)
        async with self.session.post(f"{self.url}/v2/steady-0/_accordion/plan", data=body) as answer:
            return self._refused(self.tally.answered(answer.status))

    async def long_body(self) -> str:
        async with self.session.post(f"{self.url}/v2/steady-0/_accordion/plan", data=b" " * 300_000) as answer:
            return self._refused(self.tally.answered(answer.status))

    async def wrong_method(self) -> str:
        method = self.rng.choice(["PUT", "DELETE", "PATCH", "OPTIONS", "NONSENSE"])
        async with self.session.request(method, f"{self.url}/v2/steady-0/manifests/latest", data=b"x") as answer:
            return self._refused(self.tally.answered(answer.status))

    async def many_ranges(self) -> str:
        manifest = await self._manifest("steady-0", time.monotonic())
        assert manifest is not None
        count = self.rng.choice([20, 300, 700])
        header = "bytes=" + ",".join(f"{2 * k}-{2 * k}" for k in range(count))
        status, _, _ = await self._get(f"/v2/steady-0/_accordion/stream/{manifest.digest}", headers={"Range": header})
        if status not in (200, 206, 416, 431):
            raise Unexpected(f"answered {status}")
        return f"answered with {status}"

    async def raw(self, request: bytes) -> str:
        """Bytes as they are; the answer's status, or the connection closed."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(request)
            with suppress(ConnectionError):
                await writer.drain()
            return self._line(await asyncio.wait_for(reader.readline(), CLOSE_S))
        except ConnectionError:
            return "closed"
        finally:
            await _close(writer)

    def _line(self, line: bytes) -> str:
        if not line:
            return "closed"
        status = self.tally.answered(int(line.split()[1]))
        return f"answered with {status}"

    async def lingering(self, first: bytes, more: bytes = b"") -> str:
        """Says little or nothing, and stays: the endpoint has to close."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(first)
            end = time.monotonic() + CLOSE_S
            while time.monotonic() < end:
                with suppress(TimeoutError):
                    return self._line(await asyncio.wait_for(reader.readline(), 1.0))
                writer.write(more)
            raise Unexpected(f"still open after {CLOSE_S:g} s")
        except ConnectionError:
            return "closed"
        finally:
            await _close(writer)

    async def slow_body(self) -> str:
        head = b"POST /v2/steady-0/_accordion/plan HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        return await self.lingering(head, b" ")

    async def slow_reader(self) -> str:
        """Asks for megabytes, and takes nothing."""
        manifest = await self._manifest(self.big, time.monotonic())
        assert manifest is not None
        loop, end = asyncio.get_running_loop(), time.monotonic() + CLOSE_S
        with socket.socket() as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.setblocking(False)
            await loop.sock_connect(made, (self.host, self.port))
            await loop.sock_sendall(
                made, b"GET /v2/%s/_accordion/stream/%s HTTP/1.1\r\nHost: x\r\n\r\n" % (self.big.encode(), manifest.digest.encode())
            )
            while time.monotonic() < end:
                await asyncio.sleep(1.0)
                if made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1:  # no longer established
                    return "closed"
        raise Unexpected(f"still open after {CLOSE_S:g} s")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), 5.0)
