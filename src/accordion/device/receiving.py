"""The bytes of a delivery: streams, cut into layers, each verified while it arrives and then handed over."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from accordion.device.job import Job, Observer
from accordion.device.layers import Incoming
from accordion.device.link import Shaper
from accordion.device.pace import Pace
from accordion.device.placing import Batch, Placing
from accordion.device.store import Store
from accordion.errors import TransferError
from accordion.registry.client import RegistryClient

__all__ = ["Receiver"]

Place = Callable[[Batch], Awaitable[None]]  # puts verified layers into their place; may raise to end the transfer


class Receiver:
    """Receives for one delivery: counts, shapes, keeps the pace, and knows what was asked for ahead."""

    def __init__(self, job: Job, observer: Observer, pace: Pace) -> None:
        self.where, self.started, self.observer, self.pace = job.target.base, job.started, observer, pace
        self.shaper = Shaper(job.link)
        self.received = 0
        self.came: Counter[str] = Counter()  # bytes of each layer, by its digest
        self.events: list[tuple[float, int]] = [(0.0, 0)]
        # A stream that was asked for together with the manifest: (first byte, last byte), and its pieces.
        self.early: tuple[tuple[int, int], asyncio.Task[AsyncIterator[bytes] | None]] | None = None

    async def layers(self, client: RegistryClient, store: Store, wanted: list[int], place: Place) -> None:
        """Fetches layers; neighbours come in one stream, from where an earlier fetch was cut off. `place` gets what is verified.

        However it ends, all that was verified is in its place then.
        """
        placing = Placing(place)
        try:
            await self._layers(client, store, wanted, placing)
        finally:
            await placing.drain()

    async def _layers(self, client: RegistryClient, store: Store, wanted: list[int], placing: Placing) -> None:
        while wanted:
            run = [wanted.pop(0)]
            while wanted and wanted[0] == run[-1] + 1 and not store.partial(wanted[0]):
                run.append(wanted.pop(0))
            have = store.partial(run[0])
            start, end = store.manifest.offsets[run[0]] + have, store.manifest.offsets[run[-1] + 1] - 1
            if start > end:  # whole already, or empty
                await self._fill(store, run, _nothing(), placing)
                continue
            if self.early is not None and self.early[0] == (start, end):
                (_, task), self.early = self.early, None
                pieces = await task
            else:
                pieces = await self.stream(client, store.manifest.digest, start, end)
            if pieces is not None:
                await self._fill(store, run, pieces, placing)
                continue
            for position, index in enumerate(run):  # a plain registry: one blob after the other
                if position:
                    await self.shaper.round_trip()
                layer = store.manifest.layers[index]
                await self._fill(store, [index], client.blob_range(layer, store.partial(index)), placing)

    async def stream(self, client: RegistryClient, manifest: str, start: int, end: int) -> AsyncIterator[bytes] | None:
        """The bytes of a version's stream; None where there is no stream."""
        began = time.monotonic()
        await self.shaper.round_trip()
        pieces = await client.stream(manifest, start, end)
        self.pace.round_trip(time.monotonic() - began)
        return pieces

    async def drop_early(self) -> None:
        """Closes a stream that nobody came to read."""
        if self.early is None:
            return
        (_, task), self.early = self.early, None
        task.cancel()
        for pieces in await asyncio.gather(task, return_exceptions=True):
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def _fill(self, store: Store, run: list[int], pieces: AsyncIterator[bytes], placing: Placing) -> None:
        """Cuts a stream into layers, and hands each over when it is whole."""
        self.pace.begin()
        waiting = list(run)
        incoming = store.incoming(waiting.pop(0))
        index = run[0]
        try:
            shaped = self.shaper.shape(pieces)
            while True:
                while not incoming.missing:
                    await self._hand_over(placing, index, incoming)
                    if not waiting:
                        return
                    index = waiting.pop(0)
                    incoming = store.incoming(index)
                piece = await anext(shaped, None)
                if piece is None:
                    raise TransferError(f"{self.where} broke off in layer {index}")
                self.count(len(piece), flows=True)
                view = memoryview(piece)
                while view:
                    part = view[: incoming.missing]
                    self.came[incoming.verifier.digest] += len(part)
                    incoming.take(bytes(part))
                    view = view[len(part) :]
                    if view:
                        await self._hand_over(placing, index, incoming)
                        if not waiting:
                            raise TransferError(f"{self.where} sent more than was asked for")
                        index = waiting.pop(0)
                        incoming = store.incoming(index)
        finally:
            incoming.close()
            if hasattr(pieces, "aclose"):
                await pieces.aclose()

    @staticmethod
    async def _hand_over(placing: Placing, index: int, incoming: Incoming) -> None:
        placing.put(index, incoming.finish())
        if index == 0:  # the ladder says whether the rest is what was asked for: no more than that is taken on trust
            await placing.drain()

    def count(self, count: int, *, flows: bool = False) -> None:
        """Bytes have arrived; with `flows` as a part of a stream, so that they say something of the link."""
        self.received += count
        now = time.monotonic() - self.started
        if flows:
            self.pace.received(count, now)
        self.events.append((now, self.received))
        if self.observer.received is not None:
            self.observer.received(now, self.received)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
