"""A link inside the process: a token bucket that needs no rights and shapes real transfers, at one rate or as a trace went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from accordion.errors import UsageError
from accordion.planning.links import Trace

__all__ = ["Link", "Shaper"]

GRAIN_S = 0.005  # what arrives is handed on in pieces of so much time, so that it does not come in lumps
BURST_S = 0.02  # how much time's worth of tokens an idle link gathers


@dataclass(frozen=True, slots=True)
class Link:
    """`rate_bps` bits a second (None: as fast as it goes), `rtt_s` seconds of round trip added to every request.

    With `trace` instead of a rate, the link replays it in real time from `start_s` on, over and over. Its outages are outages.
    Without `rtt_s`, its own round trips count, each at its moment, if it has any.
    """

    rate_bps: float | None = None
    rtt_s: float | None = None
    trace: Trace | None = None
    start_s: float = 0.0

    def __post_init__(self) -> None:
        if self.rate_bps is not None and not 0 < self.rate_bps < float("inf"):
            raise UsageError(f"a link can't have {self.rate_bps:g} bits a second; left out, it goes as fast as it can")
        if self.rtt_s is not None and not 0 <= self.rtt_s < float("inf"):
            raise UsageError(f"a round trip can't take {self.rtt_s:g} s")
        if self.trace is not None and self.rate_bps is not None:
            raise UsageError("a link has one rate or replays a trace, not both")
        if self.trace is not None and not self.trace.edges[-1] > 0:
            raise UsageError(f"trace {self.trace.name} brings nothing at all: a transfer over it would never end")
        if not 0 <= self.start_s < float("inf"):
            raise UsageError(f"a trace can't begin at {self.start_s:g} s")

    @property
    def shapes(self) -> bool:
        """Whether bytes take any time."""
        return self.rate_bps is not None or self.trace is not None

    def crossed_at(self, begin: float, count: int) -> float:
        """When `count` bytes that set out at `begin` have crossed, both in seconds since the link began to work."""
        if self.trace is not None:
            at = self.start_s + begin
            return begin + self.trace.when(at, count)
        return begin if self.rate_bps is None else begin + count * 8 / self.rate_bps

    def round_trip_at(self, moment: float) -> float:
        """Seconds that a round trip takes which begins then."""
        if self.rtt_s is not None:
            return self.rtt_s
        if self.trace is None or not self.trace.rtts_s:
            return 0.0
        within = (self.start_s + max(0.0, moment)) % self.trace.seconds
        pool = self.trace.rtts_s
        return pool[min(len(pool) - 1, int(within / self.trace.seconds * len(pool)))]

    def grain(self, moment: float) -> int:
        """Bytes to hand on at once then."""
        if self.trace is None:
            return max(256, int((self.rate_bps or 0.0) * GRAIN_S / 8))
        at = self.start_s + max(0.0, moment)
        return max(256, int(self.trace.between(at, at + GRAIN_S)))


class Shaper:
    """The link at work. One for each transfer: what flows through it shares its rate. Its time begins with the first use.

    `clock` and `sleep` are asyncio's, unless a test has its own.
    """

    def __init__(
        self,
        link: Link,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.link = link
        self._clock, self._sleep = clock, sleep
        self._began: float | None = None
        self._free_at: float | None = None  # when the bytes let through so far have crossed

    async def round_trip(self) -> None:
        """Passes the time of a request and the beginning of its answer."""
        if seconds := self.link.round_trip_at(self._now()):
            await self._sleep(seconds)

    async def carry(self, count: int) -> None:
        """Passes the time that `count` bytes take to cross."""
        if not self.link.shapes:
            return
        now = self._now()
        begin = now - BURST_S if self._free_at is None else max(self._free_at, now - BURST_S)
        if self.link.trace is not None:
            begin = max(begin, 0.0)  # before its beginning a trace has nothing to gather
        self._free_at = self.link.crossed_at(begin, count)
        if self._free_at > now:
            await self._sleep(self._free_at - now)

    async def shape(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The pieces, each when it has crossed."""
        if not self.link.shapes:
            async for piece in pieces:
                yield piece
            return
        async for piece in pieces:
            start = 0
            while start < len(piece):
                part = piece[start : start + self.link.grain(self._now())]
                await self.carry(len(part))
                yield part
                start += len(part)

    def _now(self) -> float:
        now = asyncio.get_running_loop().time() if self._clock is None else self._clock()
        if self._began is None:
            self._began = now
        return now - self._began
