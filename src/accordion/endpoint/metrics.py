"""What the endpoint counts. Nothing identifies a device, and no label comes from a request: the number of series is bounded."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accordion.endpoint.load import Load

__all__ = ["CONTENT_TYPE", "Measured", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
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
        self.packages = Gauge("accordion_packages", "Packages that are served.", registry=self.registry)
        self.problems = Gauge("accordion_package_problems", "Packages of which something can't be served.", registry=self.registry)

    def plan(self, outcome: str) -> None:
        """Counts one plan request."""
        self.plans.labels(outcome).inc()

    def text(self, *, packages: int, problems: int) -> bytes:
        """Everything in Prometheus's text form."""
        self.packages.set(packages)
        self.problems.set(problems)
        return generate_latest(self.registry)


class Measured:
    """An ASGI application, counted, also for its load.

    The route's name is what the application leaves in `scope["accordion"]["route"]`.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, load: Load) -> None:
        self._app = app
        self._metrics = metrics
        self._load = load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, count, promised = 500, 0, 0
        notes = scope["accordion"] = {"route": "other"}
        begin = time.perf_counter()

        async def counting(message: Message) -> None:
            nonlocal status, count, promised
            kind = message["type"]
            if kind == "http.response.start":
                status = message["status"]
                promised = next((int(value) for name, value in message["headers"] if name == b"content-length"), 0)
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
            metrics.seconds.labels(route).observe(time.perf_counter() - begin)
