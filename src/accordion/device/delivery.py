"""One delivery: plan, stream, verify layer by layer while it arrives, and what is complete counts when the deadline passes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accordion.artifact.digest import is_digest
from accordion.artifact.ladder import Ladder, Quality
from accordion.artifact.manifest import Manifest
from accordion.device.link import Link, Shaper
from accordion.device.store import INCOMING, Store, locked
from accordion.errors import ContentError, DigestError, FormatError, TransferError, UnmeetableError, UsageError
from accordion.planning import Held, Overhead, Plan, Request, make_plan
from accordion.registry.auth import Credentials
from accordion.registry.client import RegistryClient
from accordion.registry.reference import Reference

__all__ = ["Delivery", "Job", "Observer", "deliver"]

TRIES = 4  # of a stream that breaks off; each must have brought something
PAUSE_S = 0.2  # before the second try, doubled before each further one
PING_S = 0.05  # how long the plan waits for a second connection, once it is there itself
LOCAL = Overhead(setup_round_trips=1.0)  # a device that plans for itself has only to connect


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a fetch or an upgrade brought. `bytes_received` counts manifest and layers as they were sent; `bytes_reused` what the
    configuration's layers hold that was here before.

    `configuration` is the largest complete one; `ready` holds (configuration, seconds since the call) of each as it became
    complete, beginning with what was there.
    """

    name: str
    manifest: str
    configuration: int
    quality: Quality
    bytes_received: int
    bytes_reused: int
    seconds: float
    deadline_met: bool
    ready: tuple[tuple[int, float], ...]
    events: tuple[tuple[float, int], ...] = field(default=(), repr=False)
    """(seconds, bytes received so far), for a picture."""

    def to_json(self) -> dict[str, Any]:
        """As the commands write it."""
        return {
            "name": self.name,
            "manifest": self.manifest,
            "configuration": self.configuration,
            "quality": self.quality.to_json(),
            "bytes_received": self.bytes_received,
            "bytes_reused": self.bytes_reused,
            "seconds": self.seconds,
            "deadline_met": self.deadline_met,
            "ready": [{"configuration": k, "seconds": seconds} for k, seconds in self.ready],
        }


@dataclass(frozen=True, slots=True)
class Observer:
    """What a caller wants to hear of while bytes arrive; seconds count from the call.

    `ready`: a configuration is whole and may run from the folder; awaited, so let it be quick or start something. `received`:
    seconds and bytes so far. `say`: a line for people.
    """

    ready: Callable[[int, float], Awaitable[None]] | None = None
    received: Callable[[float, int], None] | None = None
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be delivered. `to` names the configuration instead of the request's limits.

    `started` is the `time.monotonic()` from which the deadline counts.
    """

    root: Path
    target: Reference
    request: Request
    to: int | None = None
    link: Link = Link()  # noqa: RUF009  frozen
    credentials: Credentials | None = None
    started: float = field(default_factory=time.monotonic)


async def deliver(job: Job, observer: Observer) -> Delivery:
    """Carries out a job; see `fetch` and `upgrade` for what can go wrong."""
    with locked(job.root):
        return await _Delivering(job, observer).work()


@dataclass(frozen=True, slots=True)
class _Goal:
    """Configuration `k` of `manifest`, whose first `layers` layers it needs; `sure` unless the deadline is known to be too near."""

    manifest: Manifest
    k: int
    layers: int
    sure: bool = True


class _Delivering:
    def __init__(self, job: Job, observer: Observer) -> None:
        self.job, self.observer, self.request = job, observer, job.request
        self.shaper = Shaper(job.link)
        self.received = 0
        self.came: Counter[str] = Counter()  # bytes of each layer, by its digest
        self.ready: list[tuple[int, float]] = []
        self.events: list[tuple[float, int]] = [(0.0, 0)]
        self.running: Store | None = None  # what the folder holds
        self.store: Store | None = None  # where the goal grows: the same, or the next version beside it
        self.met = True
        # A stream that was asked for together with the manifest: (first byte, last byte), and its pieces.
        self.early: tuple[tuple[int, int], asyncio.Task[AsyncIterator[bytes] | None]] | None = None

    async def work(self) -> Delivery:
        imports = asyncio.create_task(asyncio.to_thread(_import_ahead))
        try:
            return await self._work()
        finally:
            await imports

    async def _work(self) -> Delivery:
        await self._take_stock()
        deadline = None if self.request.deadline_s is None else self.job.started + self.request.deadline_s
        try:
            # asyncio's clock is time.monotonic
            async with asyncio.timeout_at(deadline):
                async with RegistryClient(self.job.target, self.job.credentials) as client:
                    try:
                        goal = await self._choose(client)
                        await self._transfer(client, goal)
                        await self._arrived()
                    finally:
                        await self._drop_early()
        except TimeoutError:
            self.met = False
        return self._result()

    # What is there ---------------------------------------------------------------------------------------------------------

    async def _take_stock(self) -> None:
        try:
            self.running = Store.open(self.job.root)
        except (ContentError, UsageError) as error:
            if (self.job.root / "state.json").exists():
                self.observer.say(f"{error}: fetching it anew")
            return
        if broken := await asyncio.to_thread(self.running.repair):
            self.observer.say(f"no longer what was fetched, so it comes again: {', '.join(broken[:5])}")
        if (held := self._held()) is not None:
            await self._tell(held.configuration)

    def _held(self) -> Held | None:
        if self.running is None:
            return None
        try:
            complete = self.running.complete(self.running.ladder())
        except ContentError:
            return None
        return None if complete is None else Held(self.running.manifest.digest, complete)

    # What to fetch ---------------------------------------------------------------------------------------------------------

    async def _choose(self, client: RegistryClient) -> _Goal:
        await self.shaper.round_trip()  # the connection
        reference = self.request.reference or self.job.target.reference
        held = self._held()
        if self.running is not None and reference == self.running.manifest.digest and held is not None:
            return self._plan_here(self.running.manifest, self.running.ladder(), held, LOCAL)
        if self.job.to is None:
            answer = await self._ask_planner(client, reference, held)
            if answer is not None:
                return await self._follow(client, *answer)
        manifest = await self._manifest(client, reference or await client.resolve())
        self._begin(manifest, reference)
        store = self._store()
        if store.missing(1):
            await self._layers(client, store, [0])
        return self._plan_here(manifest, store.ladder(), held, Overhead())

    async def _ask_planner(self, client: RegistryClient, reference: str | None, held: Held | None) -> tuple[Plan, bool] | None:
        """The endpoint's plan, and whether it keeps the limits; None where nobody plans."""
        request = replace(self.request, reference=reference, held=held)
        if request.deadline_s is not None:
            left = request.deadline_s - (time.monotonic() - self.job.started)
            if left <= 0:
                raise TimeoutError
            request = replace(request, deadline_s=left)
        # A second connection opens meanwhile: manifest and stream are then asked for at once.
        second = asyncio.create_task(client.ping())
        await self.shaper.round_trip()
        try:
            data = await client.plan(request.to_json())
            await asyncio.wait([second], timeout=PING_S)
        except UsageError as error:
            if held is None or "held" not in str(error):
                raise
            data = await client.plan(replace(request, held=None).to_json())  # it does not know that version
        except UnmeetableError as error:
            # A deadline is the device's to keep: it tries, and what arrives is kept. Other limits are facts.
            if error.limit != "deadline_s" or error.nearest is None or held is not None:
                raise
            self.observer.say(f"{error}; trying all the same")
            return Plan.from_json(dict(error.nearest)), False
        finally:
            second.cancel()
        return None if data is None else (Plan.from_json(data), True)

    async def _follow(self, client: RegistryClient, plan: Plan, sure: bool) -> _Goal:
        asked = self.request.reference or self.job.target.reference
        if is_digest(asked) and plan.manifest != asked:
            raise DigestError(f"{self.job.target.base} plans for {plan.manifest}; {asked} was asked for")
        if self.running is not None and self.running.manifest.digest == plan.manifest:
            manifest = self.running.manifest
        else:
            if self.running is None and plan.ranges and not (self.job.root / INCOMING).exists():
                self.early = plan.ranges[0], asyncio.create_task(self._stream(client, plan.manifest, *plan.ranges[0]))
            manifest = await self._manifest(client, plan.manifest)
        self._begin(manifest, self.request.reference or self.job.target.reference)
        # The plan is a hint, the manifest counts: what it needs ends where a layer ends.
        if plan.bytes_total not in manifest.offsets[1:]:
            raise FormatError(f"the plan of {self.job.target} is for {plan.bytes_total} bytes, where no layer ends")
        goal = _Goal(manifest, plan.configuration, manifest.offsets.index(plan.bytes_total, 1), sure)
        store = self._store()
        sent = sum(manifest.layers[index].size - store.partial(index) for index in store.missing(goal.layers))
        if sure and self.request.max_bytes is not None and sent > self.request.max_bytes:
            raise FormatError(f"the plan of {self.job.target} is for {sent} bytes; at most {self.request.max_bytes} were asked for")
        return goal

    def _plan_here(self, manifest: Manifest, ladder: Ladder, held: Held | None, overhead: Overhead) -> _Goal:
        self._begin(manifest, self.request.reference or self.job.target.reference)
        if self.job.to is not None:
            if self.job.to >= len(ladder):
                raise UsageError(f"there is no configuration {self.job.to}: {self.job.target.name} has 0 to {len(ladder) - 1}")
            return _Goal(manifest, self.job.to, ladder.configurations[self.job.to].layers)
        known = None
        if held is not None and self.running is not None and held.manifest != manifest.digest:
            known = (self.running.manifest, self.running.ladder())
        sure = True
        try:
            plan = make_plan(
                self.job.target.name, manifest, ladder, replace(self.request, held=held), held=known, overhead=overhead
            )
            k = plan.configuration
        except UnmeetableError as error:
            if error.limit != "deadline_s" or error.nearest is None or held is not None:
                raise
            self.observer.say(f"{error}; trying all the same")
            k, sure = int(error.nearest["configuration"]), False
        return _Goal(manifest, k, ladder.configurations[k].layers, sure)

    async def _manifest(self, client: RegistryClient, reference: str) -> Manifest:
        await self.shaper.round_trip()
        found = await client.manifest_as_sent(reference)
        if found is None:
            raise UsageError(f"{self.job.target.base} has no {self.job.target.name}:{reference}")
        raw, sent = found
        await self.shaper.carry(sent)
        self._count(sent)
        return Manifest.parse(raw, digest=reference if is_digest(reference) else None)

    def _begin(self, manifest: Manifest, reference: str | None) -> None:
        """Chooses where the version grows."""
        if self.store is not None and self.store.manifest.digest == manifest.digest:
            return
        about = {"name": self.job.target.name, "url": self.job.target.base, "reference": reference}
        if self.running is None or self.running.manifest.digest == manifest.digest or self._held() is None:
            self.store = Store.begin(self.job.root, manifest, **about)  # type: ignore[arg-type]
            if self.running is not None and self.running.manifest.digest == manifest.digest:
                self.store.state = replace(self.store.state, files=self.running.state.files)
            self.store.repair()
            self.running = self.store
        else:
            self.store = self.running.next_version(manifest, **about)  # type: ignore[arg-type]
            self.store.repair()
        self.store.save()

    def _store(self) -> Store:
        if self.store is None:
            raise RuntimeError("nothing was chosen yet")
        return self.store

    # The bytes -------------------------------------------------------------------------------------------------------------

    async def _transfer(self, client: RegistryClient, goal: _Goal) -> None:
        store = self._store()
        if not store.missing(1):
            self._check_goal(store, goal)
        for attempt in range(TRIES):
            before = self.received
            try:
                await self._layers(client, store, store.missing(goal.layers), goal)
                return
            except TransferError as error:
                if attempt + 1 == TRIES or self.received == before or (error.status or 500) in (401, 403, 404):
                    raise
                self.observer.say(f"{error}; going on from there")
                await asyncio.sleep(PAUSE_S * 2**attempt)

    async def _layers(self, client: RegistryClient, store: Store, wanted: list[int], goal: _Goal | None = None) -> None:
        """Fetches layers; neighbours come in one stream, from where an earlier fetch was cut off."""
        while wanted:
            run = [wanted.pop(0)]
            while wanted and wanted[0] == run[-1] + 1 and not store.partial(wanted[0]):
                run.append(wanted.pop(0))
            have = store.partial(run[0])
            start, end = store.manifest.offsets[run[0]] + have, store.manifest.offsets[run[-1] + 1] - 1
            if start > end:  # whole already, or empty
                await self._fill(store, run, _nothing(), goal)
                continue
            if self.early is not None and self.early[0] == (start, end):
                (_, task), self.early = self.early, None
                pieces = await task
            else:
                pieces = await self._stream(client, store.manifest.digest, start, end)
            if pieces is not None:
                await self._fill(store, run, pieces, goal)
                continue
            for position, index in enumerate(run):  # a plain registry: one blob after the other
                if position:
                    await self.shaper.round_trip()
                layer = store.manifest.layers[index]
                await self._fill(store, [index], client.blob_range(layer, store.partial(index)), goal)

    async def _stream(self, client: RegistryClient, manifest: str, start: int, end: int) -> AsyncIterator[bytes] | None:
        await self.shaper.round_trip()
        return await client.stream(manifest, start, end)

    async def _drop_early(self) -> None:
        """Closes a stream that nobody came to read."""
        if self.early is None:
            return
        (_, task), self.early = self.early, None
        task.cancel()
        for pieces in await asyncio.gather(task, return_exceptions=True):
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def _fill(self, store: Store, run: list[int], pieces: AsyncIterator[bytes], goal: _Goal | None) -> None:
        """Cuts a stream into layers, and puts each into its place when it is whole."""
        waiting = list(run)
        incoming = store.incoming(waiting.pop(0))
        index = run[0]
        try:
            shaped = self.shaper.shape(pieces)
            while True:
                while not incoming.missing:
                    store.add(index, incoming.finish())
                    await self._placed(store, index, goal)
                    if not waiting:
                        return
                    index = waiting.pop(0)
                    incoming = store.incoming(index)
                piece = await anext(shaped, None)
                if piece is None:
                    raise TransferError(f"{self.job.target.base} broke off in layer {index}")
                self._count(len(piece))
                view = memoryview(piece)
                while view:
                    part = view[: incoming.missing]
                    self.came[incoming.verifier.digest] += len(part)
                    incoming.take(bytes(part))
                    view = view[len(part) :]
                    if view:
                        store.add(index, incoming.finish())
                        await self._placed(store, index, goal)
                        if not waiting:
                            raise TransferError(f"{self.job.target.base} sent more than was asked for")
                        index = waiting.pop(0)
                        incoming = store.incoming(index)
        finally:
            incoming.close()
            if hasattr(pieces, "aclose"):
                await pieces.aclose()

    async def _placed(self, store: Store, index: int, goal: _Goal | None) -> None:
        if index == 0 and goal is not None:
            self._check_goal(store, goal)
        if store.missing(1):
            return
        ladder = store.ladder()
        k = store.complete(ladder)
        if k is None or (store.state.configuration is not None and k <= store.state.configuration and not self._forgotten(k)):
            return
        store.check_graph(ladder, k)
        store.save(k)
        if store is self.running:
            await self._tell(k)

    def _forgotten(self, k: int) -> bool:
        """Whether the state's configuration was complete before a repair but has not been announced in this delivery."""
        return all(k != known for known, _ in self.ready)

    async def _arrived(self) -> None:
        """The goal is whole: another version takes its place now."""
        store = self._store()
        if store is not self.running:
            ladder = store.ladder()
            k = store.complete(ladder)
            if k is None:
                raise DigestError(f"{store.root} lacks what was fetched: the disk lost it")
            await asyncio.to_thread(store.check_configuration, ladder, k)
            store.save(k)
            self.running = self.store = await asyncio.to_thread(store.exchange)
            await self._tell(k)
        else:
            store.save(store.complete(store.ladder()))
            k = store.complete(store.ladder())
            if k is not None and self._forgotten(k):
                await self._tell(k)

    def _check_goal(self, store: Store, goal: _Goal) -> None:
        """The ladder has come: is the plan, which may be somebody else's, what was asked for?"""
        rungs, request = store.ladder().configurations, self.request
        if goal.k >= len(rungs) or rungs[goal.k].layers != goal.layers:
            raise FormatError(f"the plan says that configuration {goal.k} needs {goal.layers} layers; the ladder says otherwise")
        rung = rungs[goal.k]
        cautious = request.confidence is not None
        too_much = request.max_macs is not None and rung.macs > request.max_macs
        too_bad = request.min_quality is not None and not rung.quality.meets(request.min_quality, cautious=cautious)
        if goal.sure and (too_much or too_bad):
            raise FormatError(
                f"the plan of {self.job.target} is for configuration {goal.k}, which does not keep the limits asked for"
            )

    def _count(self, count: int) -> None:
        self.received += count
        now = time.monotonic() - self.job.started
        self.events.append((now, self.received))
        if self.observer.received is not None:
            self.observer.received(now, self.received)

    async def _tell(self, k: int) -> None:
        now = time.monotonic() - self.job.started
        self.ready.append((k, now))
        if self.observer.ready is not None:
            await self.observer.ready(k, now)

    def _result(self) -> Delivery:
        seconds = time.monotonic() - self.job.started
        held = self._held()
        if held is None or self.running is None:
            raise UnmeetableError(
                f"nothing was complete when the deadline of {self.request.deadline_s:g} s passed; the {self.received} bytes that "
                "arrived are kept, and the next fetch goes on from there",
                limit="deadline_s",
            )
        ladder = self.running.ladder()
        rung = ladder.configurations[held.configuration]
        return Delivery(
            name=self.job.target.name,
            manifest=self.running.manifest.digest,
            configuration=held.configuration,
            quality=rung.quality,
            bytes_received=self.received,
            bytes_reused=sum(max(0, layer.size - self.came[layer.digest]) for layer in self.running.manifest.layers[: rung.layers]),
            seconds=seconds,
            deadline_met=self.met,
            ready=tuple(self.ready),
            events=tuple(self.events),
        )


def _import_ahead() -> None:
    """What checks and runs the first graph takes a while to import: better while the first bytes are on their way."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
