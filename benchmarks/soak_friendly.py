"""The friendly clients of `soak.py`: plans, manifests, blobs, streams, lists, and real devices."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import aiohttp
from soak_clients import Clients, Tally, Unexpected  # type: ignore[import-not-found]
from soak_publisher import Publisher  # type: ignore[import-not-found]

from accordion.device import Fetch, Request, shed
from accordion.device.store import Store
from accordion.errors import AccordionError, UnmeetableError

__all__ = ["Friendly"]

DEVICES = 16


class Friendly(Clients):  # type: ignore[misc]
    """Each action returns its outcome, and raises what should not have happened."""

    def __init__(self, url: str, publisher: Publisher, zoo: list[str], rng: random.Random, tally: Tally, folder: Path) -> None:
        super().__init__(url, publisher, zoo, rng, tally)
        self.devices = [folder / f"device-{k}" for k in range(DEVICES)]
        self.busy: set[Path] = set()

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
        if status in (404, 422) and (old or self.publisher.may_be_gone(name, began)):
            return "gone"
        if not self.expect(status, (200, 409), name, began):
            return "gone"
        if status == 200 and sum(layer["size"] for layer in data["layers"]) != data["bytes_to_send"]:
            raise Unexpected("a plan contradicts itself")
        return "planned" if status == 200 else "unmeetable"

    async def manifest(self) -> str:
        name = self.rng.choice(self.names)
        return "ok" if await self.manifest_of(name, time.monotonic()) is not None else "gone"

    async def blob(self) -> str:
        name, began = self.rng.choice(self.names), time.monotonic()
        manifest = await self.manifest_of(name, began)
        if manifest is None:
            return "gone"
        layer = self.rng.choice(manifest.layers)
        status, body, _ = await self.get(f"/v2/{name}/blobs/{layer.digest}")
        if not self.expect(status, (200,), name, began):
            return "gone"
        if f"sha256:{hashlib.sha256(body).hexdigest()}" != layer.digest:
            raise Unexpected(f"{name}: a blob is not what was promised")
        return "ok"

    async def stream(self, *, cut: bool) -> str:
        """All layers by the stream; with `cut` the connection is closed in the middle, once or twice, and the rest asked for."""
        name, began = self.rng.choice(self.names), time.monotonic()
        manifest = await self.manifest_of(name, began)
        if manifest is None:
            return "gone"
        got, total, cuts = bytearray(), manifest.offsets[-1], self.rng.randint(1, 2) if cut else 0
        path = f"{self.url}/v2/{name}/_accordion/stream/{manifest.digest}"
        while len(got) < total:
            until = self.rng.randrange(len(got), total) if cuts else total
            cuts -= 1
            try:
                async with self.session.get(path, headers={"Range": f"bytes={len(got)}-"}) as answer:
                    if not self.expect(self.tally.answered(answer.status), (206,), name, began):
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
        status, body, _ = await self.get(path)
        if not self.expect(status, (200,), name, began):
            return "gone"
        json.loads(body)
        return "ok"

    async def health(self) -> str:
        status, _, _ = await self.get(self.rng.choice(["/healthz", "/metrics"]))
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
            if step == "shed" and store.state.configuration is None:
                step = "away"  # its deadline passed before there was anything to shed
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
