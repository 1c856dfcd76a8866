"""How busy the endpoint is: bytes that it sends a second against what it is said to carry. A number, and nothing about anybody."""

from __future__ import annotations

import time
from collections.abc import Callable

from accordion.errors import UsageError

__all__ = ["Load"]

HALF_LIFE_S = 5.0  # of what was sent: long enough to pass over single transfers, short enough to notice an hour's beginning
BUSY, QUIET = 0.7, 0.5  # shares of the capacity; between them it stays what it was, so that plans don't flutter


class Load:
    """`capacity_bps` is what the operator states; None: unknown, so never busy."""

    def __init__(self, capacity_bps: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        if capacity_bps is not None and not 0 < capacity_bps < float("inf"):
            raise UsageError(f"a capacity of {capacity_bps:g} bits a second is none")
        self.capacity_bps = capacity_bps
        self._clock = clock
        self._bytes, self._at = 0.0, clock()
        self._busy = False

    def sent(self, count: int) -> None:
        """`count` bytes were handed over for sending."""
        if self.capacity_bps is None:
            return  # nobody will ask
        self._fade()
        self._bytes += count

    @property
    def rate_bps(self) -> float:
        """Bits a second of late."""
        self._fade()
        return self._bytes * 8 * 0.6931471805599453 / HALF_LIFE_S

    @property
    def busy(self) -> bool:
        """Whether bytes are scarce now."""
        if self.capacity_bps is None:
            return False
        share = self.rate_bps / self.capacity_bps
        self._busy = share >= BUSY or (self._busy and share > QUIET)
        return self._busy

    @property
    def scarce(self) -> str:
        """What is scarce now, as a request's `prefer` has it: bytes in peak hours, the devices' computation in quiet ones."""
        return "bytes" if self.busy else "macs"

    def _fade(self) -> None:
        now = self._clock()
        if now > self._at:
            self._bytes *= 0.5 ** ((now - self._at) / HALF_LIFE_S)
        self._at = now
