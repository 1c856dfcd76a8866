"""How much the endpoint does for whom, in one value: every bound with its unit and the reason for its size."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from accordion.endpoint.ranges import MOST_RANGES
from accordion.errors import UsageError

__all__ = ["UNBOUNDED", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no such limit. What counts "for each client" counts by token where one is shown, else by address.

    Raises:
        UsageError: a value makes no sense.
    """

    requests_per_s: float | None = None
    """Requests a second for each client. Off unless asked for: behind a proxy that is not named, everybody is one client."""
    burst: int = 100
    """Requests that a client may have saved up; a device needs four or five for a delivery."""
    transfers: int | None = 1000
    """Transfers at once, of all clients: each holds up to 256 KiB (see `content.BLOCK_BYTES`).

    A whole file that the server sends by itself holds nothing and is not counted for longer than a moment.
    """
    client_transfers: int | None = None
    """Transfers at once for each client."""
    min_rate_bps: float | None = 8_000.0
    """A client that takes less than this is cut off: 1 kB a second is slower than the slowest cellular link for things.

    Where the kernel doesn't tell (see `slow`), it is looked at block by block, 256 KiB at most, to which this rate gives 262 s.
    """
    patience_s: float = 30.0
    """Seconds over which that is measured: a train may pass a tunnel."""
    transfer_s: float | None = None
    """Seconds that one transfer may take; what is left is fetched by the next request."""
    body_bytes: int = 64 * 1024
    """Bytes of a plan request; one has a few hundred."""
    body_s: float = 10.0
    """Seconds in which it must arrive."""
    ranges: int = MOST_RANGES
    """Ranges in one request; with more of them, the header is ignored and everything is sent."""
    retry_s: int = 1
    """Seconds after which who was refused is told to come back."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"the limit {field.name} is {value}: it must be more than nothing")

    def through_python(self, *, kernel_tells: bool) -> bool:
        """Whether whole files must pass through Python, where the server could send them by itself.

        They hold no memory when it does, so `transfers` need not count them; and slow readers are seen where the kernel tells.
        """
        slow = self.min_rate_bps is not None and not kernel_tells
        return slow or self.client_transfers is not None or self.transfer_s is not None


UNBOUNDED = Limits(transfers=None, min_rate_bps=None)
"""For tests and for endpoints that stand behind something that keeps limits."""
