"""One delivery: plan, stream, verify layer by layer while it arrives, and what is complete counts when the deadline passes.

While it runs, the plan is looked at again. When the goal is whole before the deadline, what else arrives in time follows. When a
new version, which counts only once it has taken its place, would come too late, what is whole of it takes its place.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from accordion.artifact.digest import is_digest
from accordion.artifact.ladder import Ladder
from accordion.artifact.manifest import Manifest
from accordion.device.alternates import Alternates
from accordion.device.decoding import missing_library
from accordion.device.folder import Folder
from accordion.device.job import Delivery, Goal, Job, Observer
from accordion.device.layers import StaleError
from accordion.device.lock import locked
from accordion.device.pace import Pace
from accordion.device.placing import Batch
from accordion.device.receiving import Receiver
from accordion.device.store import INCOMING, Store
from accordion.device.yielding import yielding
from accordion.errors import ContentError, DigestError, FormatError, StorageError, TransferError, UnmeetableError, UsageError
from accordion.link_files import estimate_errors
from accordion.planning import Held, Overhead, Plan, PlanTable, Request, make_plan
from accordion.planning.again import further, not_worse
from accordion.planning.choice import choose
from accordion.registry.client import RegistryClient
from accordion.registry.signatures import read_signatures
from accordion.registry.versions import read_relatives
from accordion.trust import Proof
from accordion.trust.signature import Signed
from accordion.trust.trust import CHECK_S

__all__ = ["Delivery", "Job", "Observer", "deliver"]

A = TypeVar("A")
B = TypeVar("B")
TRIES = 4  # of a stream that breaks off; each must have brought something, or thrown something spoilt away
PAUSE_S = 0.2  # before the second try, doubled before each further one
PING_S = 0.05  # how long the plan waits for a second connection, once it is there itself
LOCAL = Overhead(setup_round_trips=1.0)  # a device that plans for itself has only to connect
THREAD_S = 0.5  # how long a thread may go on to ask after the deadline
# What is kept of a deadline for checking a new version and putting it into its place: a share, for the machine may be busy.
EXCHANGE_SHARE, EXCHANGE_LEAST_S, EXCHANGE_MOST_S = 0.1, 0.05, 1.0


async def deliver(job: Job, observer: Observer) -> Delivery:
    """Carries out a job; see `fetch` and `upgrade` for what can go wrong."""
    with locked(job.root), yielding():
        return await _Delivering(job, observer).work()


class _Delivering:
    def __init__(self, job: Job, observer: Observer) -> None:
        self.job, self.observer, self.request = job, observer, job.request
        self.pace = Pace(estimate_errors)
        self.receiver = Receiver(job, observer, self.pace)
        self.folder = Folder(job, observer.say, self._tell)
        self.alternates: Alternates | None = None
        self.ready: list[tuple[str, int, float]] = []  # of which version, which configuration, and when
        self.met = True

    async def work(self) -> Delivery:
        if self.job.alternate is not None:
            if (install := missing_library(self.job.alternate)) is None:
                self.alternates = Alternates(self.job.alternate, self._left)
            else:
                self.observer.say(f"all comes in its plain form: {self.job.alternate} needs `{install}`")
        imports = asyncio.create_task(asyncio.to_thread(_import_ahead))
        try:
            return await self._work()
        finally:
            if self.alternates is not None:
                self.alternates.close()
            await imports

    async def _work(self) -> Delivery:
        if self.job.trust is not None:
            self.job.trust.rule_for(self.job.target.name)  # nothing is asked for that could not be trusted
        await self.folder.take_stock()
        deadline = None if self.request.deadline_s is None else self.job.started + self.request.deadline_s
        reached = False
        try:
            # asyncio's clock is time.monotonic
            async with asyncio.timeout_at(deadline):
                async with RegistryClient(self.job.target, self.job.credentials) as client:
                    try:
                        goal = await self._choose(client)
                        whole = await self._transfer(client, goal)
                        await self.folder.arrived()
                        reached = whole and self._left() >= 0  # the clock strikes only where something is waited for
                        if whole:
                            await self._go_on(client, goal)
                    finally:
                        await self.receiver.drop_early()
        except TimeoutError:
            pass
        self.met = reached
        return self._result()

    def _left(self) -> float:
        """Seconds until the deadline; infinity without one."""
        return float("inf") if self.request.deadline_s is None else self.request.deadline_s - (time.monotonic() - self.job.started)

    # What to fetch ---------------------------------------------------------------------------------------------------------

    async def _choose(self, client: RegistryClient) -> Goal:
        await self.receiver.shaper.round_trip()  # the connection
        reference = self.request.reference or self.job.target.reference
        held = self.folder.held()
        if self.folder.running is not None and reference == self.folder.running.manifest.digest and held is not None:
            return self._plan_here(self.folder.running.manifest, self.folder.running.ladder(), held, LOCAL)
        if self.job.to is None:
            answer = await self._ask_planner(client, reference, held)
            if answer is not None:
                return await self._follow(client, *answer)
        chosen: tuple[str, int, bool] | None = None
        if reference is None and self.job.to is None:
            chosen = await self._choose_form(client, held)
            reference = None if chosen is None else chosen[0]
        manifest = await self._manifest(client, reference or await client.resolve())
        self.folder.begin(manifest, reference, await self._admit(manifest, await self._signatures(client, manifest.digest)))
        store = self.folder.growing
        if store.missing(1):
            await self.receiver.layers(client, store, [0], self.folder.take)
        if chosen is not None:
            _, k, sure = chosen
            self.folder.begin(manifest, self.request.reference or self.job.target.reference)
            return Goal(manifest, k, store.ladder().configurations[k].layers, sure)
        return self._plan_here(manifest, store.ladder(), held, Overhead())

    async def _choose_form(self, client: RegistryClient, held: Held | None) -> tuple[str, int, bool] | None:
        """Where nobody plans: of several forms of one network, the one that suits best, as its manifest's digest, with the
        configuration, and whether that keeps the limits; None where there is no choice.
        """
        await self.receiver.shaper.round_trip()
        candidates = await read_relatives(client, prefers=self.request.prefer is not None)
        if not candidates:
            return None
        size = sum(one.size for one in candidates)
        await self.receiver.shaper.carry(size)
        self.receiver.count(size)
        known = (
            None if held is None or self.folder.running is None else (self.folder.running.manifest, self.folder.running.ladder())
        )
        request = self._believing(replace(self.request, held=held, deadline_s=self._remaining()), Overhead())
        tables = [PlanTable(one.manifest, one.ladder) for one in candidates]
        try:
            plan = choose(self.job.target.name, tables, request, "bytes", held=known)
            return plan.manifest, plan.configuration, True
        except UnmeetableError as error:
            if error.limit != "deadline_s" or error.nearest is None:
                raise
            self.observer.say(f"{error}; trying all the same")
            return str(error.nearest["manifest"]), int(error.nearest["configuration"]), False

    def _remaining(self) -> float | None:
        """What is left of the deadline; None without one. TimeoutError when it has passed."""
        if self.request.deadline_s is None:
            return None
        if (left := self._left()) <= 0:
            raise TimeoutError
        return left

    async def _ask_planner(self, client: RegistryClient, reference: str | None, held: Held | None) -> tuple[Plan, bool] | None:
        """The endpoint's plan, and whether it keeps the limits; None where nobody plans."""
        request = replace(self.request, reference=reference, held=held, deadline_s=self._remaining())
        request = self._believing(request, Overhead())
        # A second connection opens meanwhile: manifest and stream are then asked for at once.
        second = asyncio.create_task(client.ping())
        began = time.monotonic()
        await self.receiver.shaper.round_trip()
        try:
            try:
                data = await client.plan(request.to_json())
                self.pace.round_trip(time.monotonic() - began)
                await asyncio.wait([second], timeout=PING_S)
            except UsageError:
                if held is None:
                    raise
                # Perhaps it does not know that version; if something else is wrong, the second answer says so.
                data = await client.plan(replace(request, held=None).to_json())
        except UnmeetableError as error:
            # A deadline is the device's to keep: it tries, and what arrives is kept. Other limits are facts.
            if error.limit != "deadline_s" or error.nearest is None:
                raise
            self.observer.say(f"{error}; trying all the same")
            return Plan.from_json(dict(error.nearest)), False
        finally:
            second.cancel()
        return None if data is None else (Plan.from_json(data), True)

    async def _follow(self, client: RegistryClient, plan: Plan, sure: bool) -> Goal:
        asked = self.request.reference or self.job.target.reference
        if is_digest(asked) and plan.manifest != asked:
            raise DigestError(f"{self.job.target.base} plans for {plan.manifest}; {asked} was asked for")
        if self.folder.running is not None and self.folder.running.manifest.digest == plan.manifest:
            manifest = self.folder.running.manifest
            signatures = await self._signatures(client, manifest.digest)
        else:
            fresh = self.folder.running is None and not (self.job.root / INCOMING).exists()
            if fresh and plan.ranges and self.alternates is None:
                self.receiver.early = (
                    plan.ranges[0],
                    asyncio.create_task(self.receiver.stream(client, plan.manifest, *plan.ranges[0])),
                )
            manifest, signatures = await _both(self._manifest(client, plan.manifest), self._signatures(client, plan.manifest))
        self.folder.begin(manifest, asked, await self._admit(manifest, signatures))
        # The plan is a hint, the manifest counts: what it needs ends where a layer ends.
        if plan.bytes_total not in manifest.offsets[1:]:
            raise FormatError(f"the plan of {self.job.target} is for {plan.bytes_total} bytes, where no layer ends")
        goal = Goal(manifest, plan.configuration, manifest.offsets.index(plan.bytes_total, 1), sure)
        store = self.folder.growing
        sent = sum(
            {manifest.layers[i].digest: manifest.layers[i].size - store.partial(i) for i in store.missing(goal.layers)}.values()
        )
        if sure and self.request.max_bytes is not None and sent > self.request.max_bytes:
            raise FormatError(f"the plan of {self.job.target} is for {sent} bytes; at most {self.request.max_bytes} were asked for")
        return goal

    def _plan_here(self, manifest: Manifest, ladder: Ladder, held: Held | None, overhead: Overhead) -> Goal:
        self.folder.begin(manifest, self.request.reference or self.job.target.reference)
        if self.job.to is not None:
            if not 0 <= self.job.to < len(ladder):
                raise UsageError(f"there is no configuration {self.job.to}: {self.job.target.name} has 0 to {len(ladder) - 1}")
            return Goal(manifest, self.job.to, ladder.configurations[self.job.to].layers)
        known = None
        if held is not None and self.folder.running is not None and held.manifest != manifest.digest:
            known = (self.folder.running.manifest, self.folder.running.ladder())
        sure = True
        try:
            request = self._believing(replace(self.request, held=held), overhead)
            plan = make_plan(self.job.target.name, manifest, ladder, request, held=known, overhead=overhead)
            k = plan.configuration
        except UnmeetableError as error:
            if error.limit != "deadline_s" or error.nearest is None:
                raise
            self.observer.say(f"{error}; trying all the same")
            k, sure = int(error.nearest["configuration"]), False
        return Goal(manifest, k, ladder.configurations[k].layers, sure)

    def _believing(self, request: Request, overhead: Overhead) -> Request:
        """The request with what the caller believes of the link; else, once that is known, with what was seen of it."""
        if request.throughput_bps is not None or request.link is not None:
            return request
        link = self.job.believed or (self.pace.link() if request.rtt_s is None else None)
        if link is None:
            return request
        return link.into(request, round_trips=overhead.setup_round_trips + overhead.stream_round_trips)

    async def _manifest(self, client: RegistryClient, reference: str) -> Manifest:
        await self.receiver.shaper.round_trip()
        found = await client.manifest_as_sent(reference)
        if found is None:
            raise UsageError(f"{self.job.target.base} has no {self.job.target.name}:{reference}")
        raw, sent = found
        await self.receiver.shaper.carry(sent)
        self.receiver.count(sent)
        return Manifest.parse(raw, digest=reference if is_digest(reference) else None)

    async def _signatures(self, client: RegistryClient, digest: str) -> list[Signed]:
        """What is signed of this manifest; nothing where no signature decides."""
        if self.job.trust is None or not self.job.trust.wants_signatures(self.job.target.name):
            return []
        await self.receiver.shaper.round_trip()
        signatures, sent = await read_signatures(client, digest, within_s=CHECK_S)
        await self.receiver.shaper.carry(sent)
        self.receiver.count(sent)
        return signatures

    async def _admit(self, manifest: Manifest, signatures: list[Signed]) -> Proof | None:
        """What vouches for this manifest as what was asked for; None where nothing has to. SignatureError where nothing does."""
        trust, name = self.job.trust, self.job.target.name
        if trust is None:
            return None
        asked = self.request.reference or self.job.target.reference
        # The deadline ends the wait itself; a repository that is asked in a thread must not keep the program much longer.
        within_s = max(THREAD_S, min(CHECK_S, self._left() + THREAD_S))
        return await asyncio.to_thread(trust.admit, name, asked, manifest.digest, manifest.size, signatures, within_s=within_s)

    # The bytes, and whether the goal is still the right one ---------------------------------------------------------------

    async def _transfer(self, client: RegistryClient, goal: Goal) -> bool:
        """Brings the goal. False if, of a new version, something smaller has to do because the deadline is near.

        A new version counts only once it has taken its place, so what is whole of it must do so in time. Within one version there
        is nothing to do: every prefix counts as it is.
        """
        store = self.folder.growing
        last = None
        if store is not self.folder.running and self.request.deadline_s is not None and self.job.to is None:
            takes = min(EXCHANGE_MOST_S, max(EXCHANGE_LEAST_S, EXCHANGE_SHARE * self.request.deadline_s))
            last = self.job.started + self.request.deadline_s - takes
        try:
            async with asyncio.timeout_at(last) as hurry:
                await self._receive(client, store, goal)
        except TimeoutError:
            if not hurry.expired() or not self._worth_taking(store):
                raise
            self.observer.say(f"configuration {goal.k} would come too late: what is whole of the new version takes its place")
            return False
        return True

    def _worth_taking(self, store: Store) -> bool:
        """Whether what is whole of a new version is no worse than what runs now."""
        held = self.folder.held()
        if store.missing(1) or held is None or self.folder.running is None:
            return False
        ladder = store.ladder()
        k = store.complete(ladder)
        now = self.folder.running.ladder().configurations[held.configuration].quality
        return k is not None and not_worse(ladder.configurations[k].quality, now)

    async def _receive(self, client: RegistryClient, store: Store, goal: Goal) -> None:
        if self.alternates is not None:
            try:
                await self._try(client, store, goal, self.alternates)
                return
            except (DigestError, TransferError) as error:
                if isinstance(error, TransferError) and error.status != 404:  # 404: it may hold the plain layers alone
                    raise
                self.observer.say(f"{error}; what is missing comes in its plain form")
                self.alternates.discard(store)
                self.alternates = None
        await self._try(client, store, goal, None)

    async def _try(self, client: RegistryClient, store: Store, goal: Goal, alternates: Alternates | None) -> None:
        """Brings what the goal lacks, going on where it broke off. DigestError where that has to go on without alternates."""
        if not store.missing(1):
            self._check_goal(store, goal)
        sizes = {layer.digest: layer.size for layer in store.manifest.layers}

        async def place(batch: Batch) -> None:
            broken = None
            if alternates is not None:
                batch, broken = await alternates.decode(store, batch)
            await self.folder.take(batch, lambda: self._check_goal(store, goal))
            for index, _ in batch:
                if (one := store.manifest.alternates.get(index)) is not None:
                    self.receiver.came[one.of] += sizes[one.of]
            if broken is not None:
                raise broken

        for attempt in range(TRIES):
            before = self.receiver.received
            wanted = store.missing(goal.layers)
            try:
                await self.receiver.layers(client, store, wanted if alternates is None else alternates.route(store, wanted), place)
                if alternates is not None and store.missing(goal.layers):
                    raise TimeoutError  # the deadline passed while something was decoded
                return
            except TransferError as error:
                useless = self.receiver.received == before and not isinstance(error, StaleError)
                if attempt + 1 == TRIES or useless or (error.status or 500) in (401, 403, 404):
                    raise
                self.observer.say(f"{error}; going on from there")
                await asyncio.sleep(PAUSE_S * 2**attempt)

    async def _go_on(self, client: RegistryClient, goal: Goal) -> None:
        """Up: the goal is whole, and the deadline leaves time for more, as far as the link is known."""
        first = goal.k
        while self.request.deadline_s is not None and self.job.to is None:
            link, store, held = self.pace.link(), self.folder.growing, self.folder.held()
            if link is None or held is None:
                return
            ladder, sent = store.ladder(), self.receiver.received
            k = further(self.job.target.name, store.manifest, ladder, self.request, held, link, self._left(), sent)
            if k is None:
                return
            self.observer.say(f"configuration {first} came early: going on to configuration {k}")
            try:
                await self._transfer(client, Goal(store.manifest, k, ladder.configurations[k].layers))
                await self.folder.arrived()
            except (ContentError, StorageError, TransferError) as error:
                self.observer.say(f"{error}; what was planned is there")
                return
            first = k

    def _check_goal(self, store: Store, goal: Goal) -> None:
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

    async def _tell(self, digest: str, k: int) -> None:
        now = time.monotonic() - self.job.started
        self.ready.append((digest, k, now))
        if self.observer.ready is not None:
            await self.observer.ready(k, now)

    def _result(self) -> Delivery:
        seconds = time.monotonic() - self.job.started
        held = self.folder.held()
        # Another model that lies here is no answer to what was asked for.
        if held is None or self.folder.running is None or self.folder.running.state.name != self.job.target.name:
            raise UnmeetableError(
                f"nothing was complete when the deadline of {self.request.deadline_s:g} s passed; the {self.receiver.received} "
                "bytes that arrived are kept, and the next fetch goes on from there",
                limit="deadline_s",
            )
        ladder = self.folder.running.ladder()
        rung = ladder.configurations[held.configuration]
        layers = self.folder.running.manifest.layers[: rung.layers]
        return Delivery(
            name=self.job.target.name,
            manifest=self.folder.running.manifest.digest,
            configuration=held.configuration,
            quality=rung.quality,
            bytes_received=self.receiver.received,
            bytes_reused=sum(max(0, layer.size - self.receiver.came[layer.digest]) for layer in layers),
            seconds=seconds,
            deadline_met=self.met,
            ready=tuple((k, when) for digest, k, when in self.ready if digest == held.manifest),
            events=tuple(self.receiver.events),
        )


async def _both(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Both at once. The first one's failure counts, and ends the second."""
    task = asyncio.create_task(second)
    try:
        return await first, await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _import_ahead() -> None:
    """What checks and runs the first graph takes a while to import: better while the first bytes are on their way."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
