"""What the endpoint counts. Nothing identifies a device, and no label comes from a request: the number of series is bounded."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accordion.endpoint.load import Load
from accordion.endpoint.logs import RequestLines

__all__ = ["CONTENT_TYPE", "Measured", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
REFUSALS = ("rate", "transfers", "client_transfers", "unauthenticated", "forbidden")
CUTS = ("slow", "time", "source")
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "accordion_http_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.sent = Counter(
            "accordion_http_sent_bytes", "Bytes of bodies handed to the server for sending.", ["route"], registry=self.registry
        )
        self.seconds = Histogram(
            "accordion_http_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.underway = Gauge("accordion_http_requests_underway", "Requests being answered.", registry=self.registry)
        self.plans = Counter("accordion_plans", "Plan requests by outcome.", ["outcome"], registry=self.registry)
        self.unlogged = Counter("accordion_request_log_dropped_lines", "Plan requests that the log missed.", registry=self.registry)
        self.packages = Gauge("accordion_packages", "Packages that are served.", registry=self.registry)
        self.problems = Gauge("accordion_package_problems", "Packages of which something can't be served.", registry=self.registry)
        self.refused = Counter(
            "accordion_refused", "Requests refused, by the limit or the right that failed.", ["reason"], registry=self.registry
        )
        self.transfers = Gauge("accordion_transfers_underway", "Blobs and streams being sent.", registry=self.registry)
        self.cut = Counter(
            "accordion_transfers_cut",
            "Transfers cut off, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.stale_tokens = Gauge(
            "accordion_tokens_unreadable", "1 if the file of tokens can't be read any more.", registry=self.registry
        )
        self.start = Gauge(
            "accordion_start_time_seconds", "When this process began to serve, in Unix time.", registry=self.registry
        )
        self.start.set_to_current_time()
        for reason in REFUSALS:  # so that a rate is known from the first refusal on
            self.refused.labels(reason)
        for reason in CUTS:
            self.cut.labels(reason)
        ProcessCollector(namespace="accordion", registry=self.registry)  # memory, processor time, descriptors

    def refuse(self, reason: str) -> None:
        """Counts one refusal."""
        self.refused.labels(reason).inc()

    def plan(self, outcome: str) -> None:
        """Counts one plan request."""
        self.plans.labels(outcome).inc()

    def text(self, *, packages: int, problems: int) -> bytes:
        """Everything in Prometheus's text form."""
        self.packages.set(packages)
        self.problems.set(problems)
        return generate_latest(self.registry)


class Measured:
    """An ASGI application, counted, also for its load, and with `lines` logged.

    The route's name is what the application leaves in `scope["accordion"]["route"]`.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, load: Load, lines: RequestLines | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._load = load
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, count, promised = 500, 0, 0
        notes: dict[str, Any] = {"route": "other"}
        scope["accordion"] = notes
        identifier = "" if self._lines is None else self._lines.new_id()
        begin = time.perf_counter()

        async def counting(message: Message) -> None:
            nonlocal status, count, promised
            kind = message["type"]
            if kind == "http.response.start":
                status = message["status"]
                promised = next((int(value) for name, value in message["headers"] if name == b"content-length"), 0)
                if identifier:
                    message = {**message, "headers": [*message["headers"], (b"x-request-id", identifier.encode())]}
            elif kind == "http.response.body":
                count += (size := len(message.get("body", b"")))
                self._load.sent(size)
            elif kind == "http.response.pathsend":
                count += promised
                self._load.sent(promised)
            await send(message)

        metrics = self._metrics
        metrics.underway.inc()
        try:
            await self._app(scope, receive, counting)
        finally:
            metrics.underway.dec()
            route, method = notes["route"], scope["method"] if scope["method"] in _METHODS else "other"
            metrics.requests.labels(route, method, str(status)).inc()
            metrics.sent.labels(route).inc(count)
            metrics.seconds.labels(route).observe(seconds := time.perf_counter() - begin)
            if self._lines is not None:
                self._lines.note(identifier, method, notes, status, count, seconds)
