"""What the endpoint counts. Nothing identifies a device, and no label comes from a request: the number of series is bounded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accordion.endpoint.load import Load
from accordion.endpoint.logs import RequestLines
from accordion.endpoint.traffic import Traffic

__all__ = ["CONTENT_TYPE", "Measured", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
REFUSALS = ("rate", "transfers", "client_transfers", "unauthenticated", "forbidden")
CUTS = ("slow", "time", "source")


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.traffic = Traffic()
        self.registry.register(self.traffic)
        self.unlogged = Counter("accordion_request_log_dropped_lines", "Plan requests that the log missed.", registry=self.registry)
        self.packages = Gauge("accordion_packages", "Packages that are served.", registry=self.registry)
        self.problems = Gauge("accordion_package_problems", "Packages of which something can't be served.", registry=self.registry)
        self.refused = Counter(
            "accordion_refused", "Requests refused, by the limit or the right that failed.", ["reason"], registry=self.registry
        )
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
        self.traffic.plans[outcome] = self.traffic.plans.get(outcome, 0) + 1

    def text(self, *, packages: int, problems: int) -> bytes:
        """Everything in Prometheus's text form."""
        self.packages.set(packages)
        self.problems.set(problems)
        return generate_latest(self.registry)


class Measured:
    """An ASGI application, counted, also for its load, and with `lines` logged.

    The route's name is what the application leaves in `scope["accordion"]["route"]`; `elsewhere` there are bytes that somebody
    else sends in its stead. `started` says, while it runs, whether an answer has begun.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, load: Load, lines: RequestLines | None = None) -> None:
        self._app = app
        self._traffic = metrics.traffic
        self._load = load
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, count = 500, 0
        headers: Sequence[tuple[bytes, bytes]] = ()
        notes: dict[str, Any] = {"route": "other"}
        scope["accordion"] = notes
        identifier = "" if self._lines is None else self._lines.new_id()
        begin = time.perf_counter()

        async def counting(message: Message) -> None:
            nonlocal status, count, headers
            kind = message["type"]
            if kind == "http.response.body":
                if size := len(message.get("body", b"")):
                    count += size
                    self._load.sent(size)
            elif kind == "http.response.start":
                status = message["status"]
                notes["started"] = True
                if identifier:
                    message = {**message, "headers": [*message["headers"], (b"x-request-id", identifier.encode())]}
                headers = message["headers"]
            elif kind == "http.response.pathsend":
                size = next((int(value) for name, value in headers if name == b"content-length"), 0)
                count += size
                self._load.sent(size)
            await send(message)

        traffic = self._traffic
        traffic.underway += 1
        try:
            await self._app(scope, receive, counting)
        finally:
            traffic.underway -= 1
            seconds = time.perf_counter() - begin
            if elsewhere := notes.get("elsewhere", 0):
                count += elsewhere
                self._load.sent(elsewhere)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            traffic.note(notes["route"], method, status, count, seconds)
            if self._lines is not None:
                self._lines.note(identifier, method, notes, status, count, seconds)
