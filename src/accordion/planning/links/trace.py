"""Measured traces: what really arrived, moment by moment, and what that says about the next download."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accordion.errors import UsageError
from accordion.planning.links.model import LinkModel, check_round_trips, check_seconds, spread

__all__ = ["LEAST_DT_S", "Trace", "TraceLink"]

Floats = NDArray[np.float64]
MOST_STARTS = 1000  # moments of one trace at which a download is imagined to begin
MOST_STARTS_IN_ALL = 20_000
FEWEST_STARTS = 40  # also where intervals are long
ROUNDING_BYTES = 1e-3
FASTEST_BPS = 1e15  # beyond this it is no rate but an error of units


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Rates `rates_bps` [n] in consecutive intervals of `dt_s` seconds each; 0 is an outage.

    `rtts_s`: round trips measured meanwhile, evenly spread over the trace; or none.
    """

    name: str
    dt_s: float
    rates_bps: Floats
    rtts_s: tuple[float, ...] = ()
    edges: Floats = field(init=False, repr=False)
    """Bytes since the beginning at each interval's border [n + 1]."""

    def __post_init__(self) -> None:
        rates = np.asarray(self.rates_bps, dtype=np.float64)
        if not LEAST_DT_S <= self.dt_s < float("inf"):
            raise UsageError(f"trace {self.name}: its intervals can't be {self.dt_s:g} s long")
        if rates.ndim != 1 or not rates.size:
            raise UsageError(f"trace {self.name} is empty, or no row of rates: {list(rates.shape)}")
        if not np.all(np.isfinite(rates)) or rates.min() < 0 or rates.max() > FASTEST_BPS:
            bad = rates[~(np.isfinite(rates) & (rates >= 0) & (rates <= FASTEST_BPS))][0]
            raise UsageError(f"trace {self.name} has a rate of {bad:g} bits a second: rates are 0 or more, and finite")
        if self.rtts_s:
            check_round_trips(self.rtts_s)
        object.__setattr__(self, "rates_bps", rates)
        object.__setattr__(self, "edges", np.concatenate([[0.0], np.cumsum(rates) * (self.dt_s / 8)]))

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.dt_s * len(self.rates_bps)

    def arrived(self, moments: ArrayLike) -> Floats:
        """Bytes that have arrived since the trace began, at each of these moments (seconds); any shape, clipped to the trace."""
        return np.interp(np.asarray(moments, dtype=np.float64), np.arange(len(self.edges)) * self.dt_s, self.edges)

    def between(self, start_s: float, end_s: float) -> float:
        """Bytes that arrive between two moments of a link that repeats the trace for ever, as a replay does."""
        return self._repeated(end_s) - self._repeated(start_s)

    def when(self, start_s: float, count: float) -> float:
        """Seconds after `start_s` at which `count` bytes have arrived on the repeated trace; infinity if it brings nothing."""
        if not (math.isfinite(start_s) and math.isfinite(count)):
            raise UsageError(f"trace {self.name} can't tell when {count:g} bytes have arrived from {start_s:g} s on")
        total = float(self.edges[-1])
        if count <= 0:
            return 0.0
        if total <= 0:
            return float("inf")
        wanted = self._repeated(start_s) + count
        rounds, within = divmod(wanted, total)
        if within == 0:  # whole rounds: they end with the last byte, not with the outage after it
            rounds, within = rounds - 1, total
        # edges[index - 1] < within <= edges[index], but for what rounding adds: it must not cost a whole outage
        index = max(1, int(np.searchsorted(self.edges, within - ROUNDING_BYTES, side="left")))
        if self.rates_bps[index - 1] == 0:  # a rounding error after a border before an outage: what comes next is after it
            index = int(np.searchsorted(self.edges, self.edges[index - 1], side="right"))
        before = float(self.edges[index - 1])
        moment = self.dt_s * (index - 1) + (within - before) * 8 / float(self.rates_bps[index - 1])
        return max(0.0, rounds * self.seconds + moment - start_s)

    def _repeated(self, moment_s: float) -> float:
        rounds, within = divmod(moment_s, self.seconds)
        return rounds * float(self.edges[-1]) + float(self.arrived(within))


LEAST_DT_S = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class TraceLink(LinkModel):
    """A link of which these traces were measured.

    A download begins at a random moment of a random trace; every trace counts alike, however long it is. It begins early enough
    to end within the trace, so traces shorter than the time asked about say nothing about it.

    With `fresh`, promises are for a trace that is *not* among these but of their kind (exchangeable with them): of n traces, each
    has the weight 1/(n+1), and 1/(n+1) stays unknown, for the new one may be worse than all. This is hierarchical conformal
    prediction (Lee, Barber, Willett, "Distribution-free inference with hierarchical data", 2023); n traces can thus promise
    n/(n+1) at most.
    Without `fresh`, promises are for these very traces.

    `rtts_s` is a pool of round trips measured apart, for traces that have none of their own.
    """

    traces: tuple[Trace, ...]
    rtts_s: tuple[float, ...] = (0.0,)
    fresh: bool = False
    _pool: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.traces:
            raise UsageError("there is no trace")
        check_round_trips(self.rtts_s)
        object.__setattr__(self, "_pool", np.sort(np.asarray(self.rtts_s, dtype=np.float64)))

    @property
    def longest_s(self) -> float:
        return max(trace.seconds for trace in self.traces)

    def with_round_trips(self, rtts_s: Sequence[float]) -> TraceLink:
        """The same rates with this pool of round trips."""
        return replace(self, rtts_s=tuple(rtts_s))

    def arrived(self, seconds: ArrayLike, round_trips: float = 0.0) -> tuple[Floats, Floats]:
        times = np.asarray(seconds, dtype=np.float64)
        longest = check_seconds(float(times.max()))
        usable = [trace for trace in self.traces if trace.seconds >= longest]
        if not usable:
            raise UsageError(f"no trace is as long as {longest:.3g} s: the longest has {self.longest_s:.3g} s")
        share = 1 / (len(usable) + (1 if self.fresh else 0))
        most = max(1, min(MOST_STARTS, MOST_STARTS_IN_ALL // len(usable)))
        found, weights = [], []
        for trace in usable:
            starts = _starts(trace, longest, most)
            delays = round_trips * self._round_trips_at(trace, starts)
            begin = starts + np.minimum(delays, longest)
            ends = np.maximum(starts[:, None] + times[None, :], begin[:, None])
            found.append(trace.arrived(ends) - trace.arrived(begin)[:, None])
            weights.append(np.full(len(starts), share / len(starts)))
        return np.concatenate(found), np.concatenate(weights)

    def round_trip_s(self) -> float:
        own = [value for trace in self.traces for value in trace.rtts_s]
        return float(np.median(own or self.rtts_s))

    def _round_trips_at(self, trace: Trace, starts: Floats) -> Floats:
        if not trace.rtts_s:
            return spread(self._pool, len(starts))
        pool = np.asarray(trace.rtts_s)
        return pool[np.minimum(len(pool) - 1, (starts / trace.seconds * len(pool)).astype(np.int64))]


def _starts(trace: Trace, window_s: float, most: int) -> Floats:
    """Moments, evenly spaced, from which `window_s` seconds lie within the trace; several an interval where windows are short."""
    room = trace.seconds - window_s
    step = min(trace.dt_s, max(window_s, trace.dt_s / 4)) / 2
    count = int(min(most, max(FEWEST_STARTS, np.ceil(room / step)))) if room > 0 else 1
    return np.asarray((np.arange(count) + 0.5) * (room / count), dtype=np.float64)
