"""The one type for what a link may deliver: rate and round trip, as scenarios with weights.

A scenario is one course of things: when the round trips are over, and how many bytes have arrived by when. A constant link has one
scenario, a distribution of rates one for each rate, a trace one for each moment at which a download may begin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accordion.errors import UsageError
from accordion.planning.links.distribution import Distribution
from accordion.planning.outlook import Outlook
from accordion.planning.request import Request, RequestError

__all__ = ["ConstantLink", "LinkModel", "RateLink"]

Floats = NDArray[np.float64]

# Where an outlook says how things stand, as shares of the time that is asked about: finer near its end, and beyond it, since
# what is expected can take longer than what is promised.
SHARES = (0.25, 0.5, 1.0, 2.0, 4.0)
# With which probabilities: close together where promises are made, so that a plan can say how much more than asked for it keeps.
LEVELS: tuple[float, ...] = (
    0.1,
    0.25,
    0.5,
    0.6,
    0.7,
    0.75,
    0.78,
    0.8,
    0.82,
    0.84,
    0.86,
    0.88,
    0.9,
    0.91,
    0.92,
    0.93,
    0.94,
    0.95,
    0.96,
    0.97,
    0.975,
)
LEVELS += (0.98, 0.985, 0.99, 0.995, 0.999)
HORIZON_S = 4.0  # what an outlook is about where there is no deadline
LEAST_S = 1e-3  # times below this are none
GOLDEN = 0.6180339887498949  # its multiples modulo 1 fill the interval evenly, however many there are


class LinkModel(ABC):
    """What a link may deliver, from a random moment on."""

    @abstractmethod
    def arrived(self, seconds: ArrayLike, round_trips: float = 0.0) -> tuple[Floats, Floats]:
        """Bytes [scenarios, m] that have arrived after each of `seconds` [m] (ascending), and the scenarios' weights.

        `round_trips` pass first, in which nothing arrives. Weights that sum to less than one leave the rest unknown.

        Raises:
            UsageError: nothing is known about so long a time.
        """

    @abstractmethod
    def round_trip_s(self) -> float:
        """The median round trip."""

    @property
    def longest_s(self) -> float:
        """The longest time about which something is known."""
        return float("inf")

    def bytes_within(self, seconds: float, round_trips: float = 0.0) -> Distribution:
        """The distribution of the bytes that arrive within `seconds` of a random moment, after `round_trips`."""
        found, weights = self.arrived([check_seconds(seconds)], round_trips)
        return Distribution.of(found[:, 0], weights)

    def into(self, request: Request, *, round_trips: float = 3.0) -> Request:
        """The request with this link in it; `round_trips` is how many the deadline has to bear.

        Raises:
            RequestError: the request says something of the link already, or the measurements are shorter than the deadline.
        """
        if request.throughput_bps is not None or request.rtt_s is not None:
            raise RequestError("link", "says rate and round trip itself: leave throughput_bps and rtt_s out")
        confidences = () if request.confidence is None else (request.confidence,)
        try:
            return replace(request, link=self.outlook(request.deadline_s, round_trips=round_trips, confidences=confidences))
        except RequestError:
            raise
        except UsageError as error:
            raise RequestError("deadline_s", str(error)) from error

    def outlook(self, within_s: float | None = None, *, round_trips: float = 3.0, confidences: Sequence[float] = ()) -> Outlook:
        """The link in a few numbers, as a request carries them, for something that has to arrive `within_s`.

        At `within_s` and at each of `confidences` it is exact; between its points it errs to the cautious side.

        Raises:
            UsageError: nothing is known about so long a time.
        """
        end = min(HORIZON_S, self.longest_s) if within_s is None else check_seconds(within_s)
        if end > self.longest_s:
            raise UsageError(f"the link's measurements last {self.longest_s:.3g} s at most: they say nothing about {end:.3g} s")
        shares = [share for share in SHARES if LEAST_S <= share * end <= self.longest_s]
        seconds = sorted({min(round(share * end, 9), self.longest_s) for share in shares if share != 1} | {end})
        levels = sorted({*LEVELS, *confidences})
        table = np.empty((len(levels), len(seconds)))
        for column, second in enumerate(seconds):  # each over all moments that allow so long a time
            found = self.bytes_within(second, round_trips)
            table[:, column] = [found.guaranteed(level) for level in levels]
        # Longer times are seen from fewer moments of a trace. What is promised at the end must not hang on that.
        middle = seconds.index(end)
        table[:, : middle + 1] = np.minimum.accumulate(table[:, middle::-1], axis=1)[:, ::-1]
        table[:, middle:] = np.maximum.accumulate(table[:, middle:], axis=1)
        rows = tuple(tuple(int(value) for value in row) for row in table)
        return Outlook(tuple(levels), tuple(seconds), rows, round_trips=round_trips, rtt_s=self.round_trip_s())


@dataclass(frozen=True, slots=True)
class ConstantLink(LinkModel):
    """Always the same: `rate_bps` bits a second, `rtt_s` seconds."""

    rate_bps: float
    rtt_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.rate_bps < float("inf"):
            raise UsageError(f"a link of {self.rate_bps:g} bits a second brings nothing: a rate is positive and finite")
        check_round_trips([self.rtt_s])

    def into(self, request: Request, *, round_trips: float = 3.0) -> Request:
        """The request with this rate and round trip: there is nothing to describe further."""
        if request.throughput_bps is not None or request.rtt_s is not None:
            return LinkModel.into(self, request, round_trips=round_trips)
        return replace(request, throughput_bps=max(1.0, self.rate_bps), rtt_s=self.rtt_s)

    def arrived(self, seconds: ArrayLike, round_trips: float = 0.0) -> tuple[Floats, Floats]:
        left = np.maximum(0.0, np.asarray(seconds, dtype=np.float64) - round_trips * self.rtt_s)
        return (left * self.rate_bps / 8)[None, :], np.ones(1)

    def round_trip_s(self) -> float:
        return self.rtt_s


@dataclass(frozen=True, slots=True, eq=False)
class RateLink(LinkModel):
    """A rate that is not known beforehand but stays: `rates_bps` [n] with `rtts_s` [n] and `weights` [n].

    A speed test table is one, and so is an estimate with its error. A rate of 0 is an outage. `rtts_s` of another length than the
    rates (a pool of round trips measured apart) is spread evenly over them.
    """

    rates_bps: tuple[float, ...]
    rtts_s: tuple[float, ...] = (0.0,)
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_round_trips(self.rtts_s)
        Distribution.of(self.rates_bps, self.weights)  # says what is wrong

    def arrived(self, seconds: ArrayLike, round_trips: float = 0.0) -> tuple[Floats, Floats]:
        rates = np.asarray(self.rates_bps, dtype=np.float64)
        weights = np.full(len(rates), 1 / len(rates)) if self.weights is None else np.asarray(self.weights)
        rtts = np.asarray(self.rtts_s, dtype=np.float64)
        delays = round_trips * (rtts if len(rtts) == len(rates) else spread(np.sort(rtts), len(rates)))
        left = np.asarray(seconds, dtype=np.float64)[None, :] - delays[:, None]
        return np.maximum(0.0, left) * rates[:, None] / 8, weights

    def round_trip_s(self) -> float:
        return float(np.median(self.rtts_s))


def check_seconds(seconds: float) -> float:
    """UsageError unless it is a time in which something can arrive."""
    if not LEAST_S <= seconds < float("inf"):
        raise UsageError(f"{seconds:g} s is no time in which something can arrive")
    return float(seconds)


def check_round_trips(rtts_s: Sequence[float]) -> None:
    """UsageError unless there are round trips, each of a finite time."""
    if not len(rtts_s):
        raise UsageError("a link has at least one round-trip time")
    for value in rtts_s:
        if not 0 <= value < float("inf"):
            raise UsageError(f"a round trip can't take {value:g} s")


def spread(pool: Floats, count: int) -> Floats:
    """`count` values of a sorted pool, spread over it evenly and in no order, the same each time: for what was measured apart."""
    index: NDArray[np.int64] = np.floor(((np.arange(count) * GOLDEN) % 1.0) * len(pool)).astype(np.int64)
    return np.take(pool, index)
