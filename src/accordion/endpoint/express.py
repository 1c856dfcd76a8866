"""Plans that can be answered at once, before everything that stands around the registry.

Where nobody is told apart, nothing is logged and nothing is traced, that has nothing to do for a plan but to count it; and passing
a request through it costs as much as the plan. Whatever is out of the ordinary (a request that is wrong or can't be met, a choice
among versions, a package that has to be read first) goes the long way, with the body that has been read.
"""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accordion.endpoint.catalog import Catalog
from accordion.endpoint.load import Load
from accordion.endpoint.metrics import Metrics
from accordion.endpoint.planner import PLAN_HEADERS, Planner, Refused
from accordion.endpoint.routing import ACCORDION

__all__ = ["Express"]

BEGIN, END = "/v2/", f"/{ACCORDION}/plan"


class Express:
    """An ASGI application that answers what it can, and leaves the rest to `app`."""

    def __init__(self, app: ASGIApp, catalog: Catalog, planner: Planner, metrics: Metrics, load: Load) -> None:
        self._app, self._catalog, self._planner = app, catalog, planner
        self._traffic, self._plan, self._load = metrics.traffic, metrics.plan, load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        snapshot = None
        if path.startswith(BEGIN) and path.endswith(END):
            name = path[len(BEGIN) : -len(END)]
            snapshot = self._catalog.current(name)
        if snapshot is None:
            await self._app(scope, receive, send)
            return
        begin, sent, traffic = time.perf_counter(), 0, self._traffic
        traffic.underway += 1
        try:
            found: bytes | Refused
            try:
                found = body = await self._planner.body(receive)
            except Refused as refused:
                found = refused
            else:
                if (answer := self._planner.at_once(name, snapshot, body, scope)) is not None:
                    sent = len(answer)
                    headers = [*PLAN_HEADERS, (b"content-length", str(sent).encode())]
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    await send({"type": "http.response.body", "body": answer, "more_body": False})
        finally:
            traffic.underway -= 1
            if sent:
                traffic.note("plan", "POST", 200, sent, time.perf_counter() - begin)
                self._plan("planned")
                self._load.sent(sent)
        if not sent:
            await self._app(scope, _again(found), send)


def _again(found: bytes | Refused) -> Receive:
    """Tells once more what came of reading the body."""

    async def receive() -> Message:
        if isinstance(found, Refused):
            raise found
        return {"type": "http.request", "body": found, "more_body": False}

    return receive
