"""Requests as plain numbers, which cost a request next to nothing; `/metrics` reads them when somebody asks.

The library's own counters take a lock and look their labels up for each number: four of them cost as much as a whole plan. Here one
thread counts, the one that serves, so nothing has to be locked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["Traffic"]

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_BOUNDS = [*map(str, SECONDS), "+Inf"]


class _Route:
    """What was sent under one route: bytes, seconds in all, and how many requests ended within each bound."""

    __slots__ = ("counts", "seconds", "sent")

    def __init__(self) -> None:
        self.sent, self.seconds = 0, 0.0
        self.counts = [0] * len(_BOUNDS)


class Traffic(Collector):
    """Requests answered and under way, for a registry of prometheus_client. Labels are the caller's to bound."""

    def __init__(self) -> None:
        self.underway = 0
        self.transfers = 0
        self.plans: dict[str, int] = {}  # plan requests by outcome
        self._requests: dict[tuple[str, str, int], int] = {}
        self._routes: dict[str, _Route] = {}

    def note(self, route: str, method: str, status: int, sent: int, seconds: float) -> None:
        """One request has been answered: with `sent` bytes of body, `seconds` after it came."""
        key = (route, method, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        if (row := self._routes.get(route)) is None:
            row = self._routes[route] = _Route()
        row.sent += sent
        row.seconds += seconds
        row.counts[bisect_left(SECONDS, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        """The series as they are now."""
        requests = CounterMetricFamily("accordion_http_requests", "Requests answered.", labels=("route", "method", "status"))
        for (route, method, status), count in self._requests.items():
            requests.add_metric((route, method, str(status)), count)
        yield requests
        sent = CounterMetricFamily("accordion_http_sent_bytes", "Bytes of bodies handed over for sending.", labels=("route",))
        seconds = HistogramMetricFamily(
            "accordion_http_request_seconds", "Seconds from a request to the end of its answer.", labels=("route",)
        )
        for route, row in self._routes.items():
            sent.add_metric((route,), row.sent)
            seconds.add_metric((route,), list(zip(_BOUNDS, accumulate(row.counts), strict=True)), row.seconds)
        yield sent
        yield seconds
        plans = CounterMetricFamily("accordion_plans", "Plan requests by outcome.", labels=("outcome",))
        for outcome, count in self.plans.items():
            plans.add_metric((outcome,), count)
        yield plans
        yield GaugeMetricFamily("accordion_http_requests_underway", "Requests being answered.", self.underway)
        yield GaugeMetricFamily("accordion_transfers_underway", "Blobs and streams being sent.", self.transfers)
