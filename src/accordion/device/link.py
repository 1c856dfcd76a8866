"""A link of a given rate and round trip inside the process: a token bucket that needs no rights and shapes real transfers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from accordion.errors import UsageError

__all__ = ["Link", "Shaper"]

GRAIN_S = 0.005  # what arrives is handed on in pieces of so much time, so that it does not come in lumps
BURST_S = 0.02  # how much time's worth of tokens an idle link gathers


@dataclass(frozen=True, slots=True)
class Link:
    """`rate_bps` bits a second (None: as fast as it goes), `rtt_s` seconds of round trip added to every request."""

    rate_bps: float | None = None
    rtt_s: float = 0.0

    def __post_init__(self) -> None:
        if self.rate_bps is not None and not self.rate_bps > 0:
            raise UsageError(f"a link of {self.rate_bps:g} bits a second brings nothing")
        if not 0 <= self.rtt_s < float("inf"):
            raise UsageError(f"a round trip can't take {self.rtt_s:g} s")


class Shaper:
    """The link at work. One for each transfer: what flows through it shares its rate."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._free_at: float | None = None  # when the bytes let through so far have crossed

    async def round_trip(self) -> None:
        """Passes the time of a request and the beginning of its answer."""
        if self.link.rtt_s:
            await asyncio.sleep(self.link.rtt_s)

    async def carry(self, count: int) -> None:
        """Passes the time that `count` bytes take to cross."""
        if self.link.rate_bps is None:
            return
        now = asyncio.get_running_loop().time()
        begin = now - BURST_S if self._free_at is None else max(self._free_at, now - BURST_S)
        self._free_at = begin + count * 8 / self.link.rate_bps
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)

    async def shape(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The pieces, each when it has crossed."""
        if self.link.rate_bps is None:
            async for piece in pieces:
                yield piece
            return
        grain = max(256, int(self.link.rate_bps * GRAIN_S / 8))
        async for piece in pieces:
            for start in range(0, len(piece), grain):
                part = piece[start : start + grain]
                await self.carry(len(part))
                yield part
