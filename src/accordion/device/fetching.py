"""Steps 1 to 6 of the paper: fetch, and later upgrade, for programs that wait and for programs that don't."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from accordion.device.delivery import deliver
from accordion.device.job import Delivery, Job, Observer
from accordion.device.link import Link
from accordion.device.store import Store
from accordion.errors import FormatError, UsageError
from accordion.planning import Request
from accordion.planning.links import LinkModel
from accordion.registry.auth import Credentials
from accordion.registry.reference import Reference, parse_reference
from accordion.trust import Trust
from accordion.units import whole_number

__all__ = ["Fetch", "fetch", "upgrade"]

ANYTHING = Request()


def fetch(
    source: str,
    model: Path | str,
    request: Request = ANYTHING,
    *,
    link: Link | None = None,
    believed: LinkModel | None = None,
    observer: Observer | None = None,
    credentials: Credentials | None = None,
    started: float | None = None,
    trust: Trust | None = None,
    alternate: str | None = None,
) -> Delivery:
    """Fetches what `request` allows of `source` (URL/NAME[:TAG]) into the folder `model`; goes on where an earlier fetch stopped.

    A folder that holds another version keeps it until the new one is whole. `link` shapes the transfer; `believed` is what is
    known of the link beforehand, for a request that says nothing of it; `started` is the `time.monotonic()` from which the
    deadline counts (now, if left out). When the deadline leaves time for more than was planned, more follows. `trust` is what this
    device trusts; left out, what it is configured to. With `alternate`, layers come in that smaller encoding (`nnc`) where there is
    one and what decodes it is installed; whatever goes wrong with that, they come as they are.

    Raises:
        UsageError: a bad address, an unknown name, a folder that holds something else; an event loop runs here (see `Fetch`).
        UnmeetableError: no configuration keeps the limits, or nothing was complete at the deadline; what arrived is kept.
        ContentError: what arrived is not what was promised, or (SignatureError) not signed as it must be; it was not used.
        TransferError: the other side can't be reached or broke off; what arrived is kept.
        StorageError: the disk failed.
    """
    job = _fetch_job(source, model, request, link, believed, credentials, started, trust, alternate)
    return _waited_for(job, observer)


def upgrade(
    model: Path | str,
    request: Request = ANYTHING,
    *,
    to: int | None = None,
    link: Link | None = None,
    believed: LinkModel | None = None,
    observer: Observer | None = None,
    credentials: Credentials | None = None,
    started: float | None = None,
    trust: Trust | None = None,
    alternate: str | None = None,
) -> Delivery:
    """Fetches only what `model` lacks for configuration `to`, or for the best that `request` allows.

    With `request.reference`, to that version: the folder is the old one until the new one is whole. Errors as of `fetch`.
    """
    job = _upgrade_job(model, request, to, link, believed, credentials, started, trust, alternate)
    return _waited_for(job, observer)


def _waited_for(job: Job, observer: Observer | None) -> Delivery:
    with suppress(RuntimeError):  # there is none, as there should be
        asyncio.get_running_loop()
        raise UsageError("an event loop runs here, which must not be held up: use `async with Fetch(…)`, or call this in a thread")
    return asyncio.run(deliver(job, observer or Observer()))


class Fetch:
    """A fetch, or with `Fetch.upgrade` an upgrade, to wait for step by step:

        async with Fetch("http://host/name", "folder", Request(deadline_s=1.0)) as delivery:
            async for configuration, seconds in delivery:
                ...  # it is whole: it may run
        result = delivery.result

    Leaving the block early stops the transfer; what arrived is kept. What made it fail is raised in the loop, or at the end of the
    block if nobody has heard of it before.
    """

    def __init__(
        self,
        source: str,
        model: Path | str,
        request: Request = ANYTHING,
        *,
        link: Link | None = None,
        believed: LinkModel | None = None,
        credentials: Credentials | None = None,
        trust: Trust | None = None,
        alternate: str | None = None,
    ) -> None:
        self._job = _fetch_job(source, model, request, link, believed, credentials, None, trust, alternate)
        self._queue: asyncio.Queue[tuple[int, float] | None] = asyncio.Queue()
        self._task: asyncio.Task[Delivery] | None = None
        self._heard = False  # whether somebody was told how it ended

    @classmethod
    def upgrade(
        cls,
        model: Path | str,
        request: Request = ANYTHING,
        *,
        to: int | None = None,
        link: Link | None = None,
        believed: LinkModel | None = None,
        credentials: Credentials | None = None,
        trust: Trust | None = None,
        alternate: str | None = None,
    ) -> Self:
        """As `upgrade`, step by step."""
        made = cls.__new__(cls)
        made._job = _upgrade_job(model, request, to, link, believed, credentials, None, trust, alternate)
        made._queue = asyncio.Queue()
        made._task = None
        made._heard = False
        return made

    @property
    def result(self) -> Delivery:
        """What the delivery brought. Raises what made it fail; UsageError if it has not ended, or was left before it had."""
        if self._task is None or not self._task.done():
            raise UsageError("the delivery has not ended yet")
        if self._task.cancelled():
            raise UsageError("the delivery was left before it had ended: what came is kept for the next one")
        self._heard = True
        return self._task.result()

    async def __aenter__(self) -> Self:
        if self._task is not None and not self._task.done():
            raise UsageError("this delivery is under way: one more needs a `Fetch` of its own")
        self._queue, self._heard = asyncio.Queue(), False

        async def ready(k: int, seconds: float) -> None:
            self._queue.put_nowait((k, seconds))

        self._task = asyncio.create_task(deliver(self._job, Observer(ready=ready)))
        self._task.add_done_callback(lambda _: self._queue.put_nowait(None))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._task is None:
            return
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        if kind is None and not self._heard and not self._task.cancelled():
            self._task.result()

    async def __aiter__(self) -> AsyncIterator[tuple[int, float]]:
        if self._task is None:
            raise UsageError("nothing is being fetched yet: `async with Fetch(…) as delivery` begins it")
        while (item := await self._queue.get()) is not None:
            yield item
        self._queue.put_nowait(None)  # whoever asks again is told the same
        if not self._task.cancelled():
            self._heard = True
            self._task.result()


def _fetch_job(
    source: str,
    model: Path | str,
    request: Request,
    link: Link | None,
    believed: LinkModel | None,
    credentials: Credentials | None,
    started: float | None,
    trust: Trust | None,
    alternate: str | None,
) -> Job:
    target = parse_reference(source)
    if request.reference is not None and target.reference is not None:
        raise UsageError(f"{source} names a version already: leave the other one out")
    return _job(Path(model), target, request, None, link, believed, credentials, started, trust, alternate)


def _upgrade_job(
    model: Path | str,
    request: Request,
    to: int | None,
    link: Link | None,
    believed: LinkModel | None,
    credentials: Credentials | None,
    started: float | None,
    trust: Trust | None,
    alternate: str | None,
) -> Job:
    if to is not None and any(
        limit is not None for limit in (request.min_quality, request.max_bytes, request.max_macs, request.max_energy_j)
    ):
        raise UsageError("the configuration to upgrade to is named: leave limits of quality, bytes, operations and energy out")
    if to is not None:
        to = whole_number(to, "the configuration to upgrade to")
    store = Store.open(Path(model))
    state = store.state
    if not state.url:
        raise FormatError(f"{model} does not say where it came from: fetch it anew")
    reference = None if request.reference is not None else state.manifest
    target = parse_reference(f"{state.url}/{state.name}")
    source = Reference(target.base, target.name, reference)
    return _job(Path(model), source, request, to, link, believed, credentials, started, trust, alternate)


def _job(
    model: Path,
    target: Reference,
    request: Request,
    to: int | None,
    link: Link | None,
    believed: LinkModel | None,
    credentials: Credentials | None,
    started: float | None,
    trust: Trust | None,
    alternate: str | None,
) -> Job:
    return Job(
        root=model,
        target=target,
        request=request,
        to=to,
        link=link or Link(),
        believed=believed,
        credentials=credentials or Credentials.from_environment(),
        started=time.monotonic() if started is None else started,
        trust=trust or Trust.configured(),
        alternate=alternate,
    )
