"""When bytes are there: what is expected of a transfer, and what may be promised of it.

Of a link with one rate (or the default) it is arithmetic, and there is nothing to promise:

    expected_s = rtt_s x round trips + (manifest + layers to send) x 8 / throughput_bps

Of a link in a request's `link`, an `Outlook`, the expected time is the median, and by the deadline have arrived, with the request's
`confidence` (a half where it says none), as many bytes as the outlook promises at that probability.

The ladder is the first layer, so it is counted among the layers. The manifest does not travel when the device holds it. The
stream's round trip is not counted when no layer is sent; then every deadline is kept, since what runs is there already, whenever
the plan comes. A request without `rtt_s` and `link` has round trips of no time.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from accordion.errors import UsageError
from accordion.planning.outlook import NEVER_S, Outlook
from accordion.planning.request import Request

__all__ = ["DEFAULT_THROUGHPUT_BPS", "STANDARD_OVERHEAD", "Arrival", "Overhead", "rate_terms"]

DEFAULT_THROUGHPUT_BPS = 10e6  # bits/s; what is assumed where nobody says better: a slow mobile link
EVEN = 0.5  # the probability meant where a request has a deadline and no confidence: sooner or later alike


@dataclass(frozen=True, slots=True)
class Overhead:
    """What a transfer costs beside the layers and the manifest.

    `setup_round_trips` pass before the stream can be asked for: one opens the connection, one brings plan or manifest.
    `stream_round_trips` pass between asking for the stream and its first byte. `extra_bytes` travel besides: headers, the plan.
    """

    setup_round_trips: float = 2.0
    stream_round_trips: float = 1.0
    extra_bytes: int = 0

    def __post_init__(self) -> None:
        if not all(0 <= value < float("inf") for value in (self.setup_round_trips, self.stream_round_trips, self.extra_bytes)):
            raise UsageError(f"a transfer can't cost {self}: no number may be below zero or without end")


STANDARD_OVERHEAD = Overhead()


@dataclass(frozen=True, slots=True)
class Arrival:
    """For each configuration: `expected` seconds, and `late`, which must not exceed `latest` if the deadline is to be kept.

    `late` are seconds, or bytes where the link is an outlook. `said` is the limit for people.
    """

    expected: Sequence[float]
    late: Sequence[float]
    latest: float
    said: str
    _request: Request
    _overhead: Overhead
    _fixed_bytes: int

    @classmethod
    def of(
        cls, request: Request, ends: Sequence[int], *, fixed_bytes: int, overhead: Overhead, default_throughput_bps: float
    ) -> Arrival:
        """For configurations of which `ends` bytes of layers have to be sent, after `fixed_bytes` of everything else."""
        deadline = float("inf") if request.deadline_s is None else request.deadline_s
        said = f"the deadline of {deadline:g} s"
        if request.link is None:
            expected = _expected_of_rate(request, ends, fixed_bytes, overhead, default_throughput_bps)
            # Where nothing has to be sent, what runs is there already.
            late = [seconds if count else min(seconds, deadline) for count, seconds in zip(ends, expected, strict=True)]
            return cls(expected, late, deadline, said, request, overhead, fixed_bytes)
        expected = _expected_of_outlook(request.link, ends, fixed_bytes, overhead)
        if request.deadline_s is None:
            return cls(expected, expected, deadline, said, request, overhead, fixed_bytes)
        wanted = request.confidence or EVEN
        allowed = request.link.promised(wanted, deadline - _shift(request.link, overhead, True))
        late = [fixed_bytes + count if count else allowed for count in ends]
        said = f"{said} with {wanted:.4g} confidence"
        most = max((level for level, row in zip(request.link.levels, request.link.bytes, strict=True) if row[-1]), default=0.0)
        if wanted > most + 1e-12:
            said += f" (what is known of the link promises nothing with more than {math.floor(most * 1e4) / 1e4:g})"
        return cls(expected, late, allowed, said, request, overhead, fixed_bytes)

    def promised(self, count: int) -> float | None:
        """The probability that `count` bytes of layers are there by the deadline; None where nothing is known of the link."""
        link, deadline = self._request.link, self._request.deadline_s
        if link is None or deadline is None:
            return None
        return link.probability(self._fixed_bytes + count, deadline - _shift(link, self._overhead, True)) if count else 1.0


def _expected_of_rate(
    request: Request, ends: Sequence[int], fixed_bytes: int, overhead: Overhead, default_throughput_bps: float
) -> list[float]:
    setup_s, stream_s, byte_s = rate_terms(
        request.throughput_bps or default_throughput_bps, request.rtt_s or 0.0, fixed_bytes, overhead
    )
    return [setup_s + (stream_s + count * byte_s if count else 0.0) for count in ends]


def rate_terms(throughput_bps: float, rtt_s: float, fixed_bytes: int, overhead: Overhead) -> tuple[float, float, float]:
    """Of a link with one rate: seconds until the stream can be asked for, until its first byte, and for each byte."""
    setup_s = rtt_s * overhead.setup_round_trips + fixed_bytes * 8 / throughput_bps
    return setup_s, rtt_s * overhead.stream_round_trips, 8 / throughput_bps


def _expected_of_outlook(link: Outlook, ends: Sequence[int], fixed_bytes: int, overhead: Overhead) -> list[float]:
    """The median time: a straight line between the outlook's points, and beyond the last as fast as until there."""
    counts, seconds = link.times()
    if len(counts) == 1:  # nothing is to be expected at all
        return [NEVER_S] * len(ends)
    shift, idle = _shift(link, overhead, True), _shift(link, overhead, False)
    pace = (seconds[-1] - seconds[0]) / counts[-1]
    last = len(counts) - 1
    made = []
    for end in ends:
        wanted = fixed_bytes + end
        right = bisect_left(counts, wanted)
        if right > last:
            moment = seconds[-1] + (wanted - counts[-1]) * pace
        elif right == 0:
            moment = seconds[0]
        else:
            share = (wanted - counts[right - 1]) / (counts[right] - counts[right - 1])
            moment = seconds[right - 1] + share * (seconds[right] - seconds[right - 1])
        made.append(min(NEVER_S, max(0.0, moment + (shift if end else idle))))
    return made


def _shift(link: Outlook, overhead: Overhead, streams: bool) -> float:
    """Seconds of the round trips that this transfer has more than the outlook counts."""
    needed = overhead.setup_round_trips + (overhead.stream_round_trips if streams else 0.0)
    return (needed - link.round_trips) * link.rtt_s
