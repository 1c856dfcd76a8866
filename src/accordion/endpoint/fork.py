"""Requests under /v2/ go straight to the registry: a router that tries pattern after pattern costs as much as a plan."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from accordion.endpoint.registry import Registry

__all__ = ["Fork"]

PREFIX = "/v2/"


class Fork:
    """`registry` for what lies under /v2/, `app` for everything else.

    The end of a line in a path, and an application that is mounted below a path, are left to the router in `app`. Where the
    registry fails, `failure` is answered, if nothing has been yet; the error then goes on to the server's log, as the router would
    have it.
    """

    def __init__(self, app: ASGIApp, registry: Registry, failure: Callable[[Exception], Response]) -> None:
        self._app, self._registry, self._failure = app, registry, failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope.get("root_path") or not (path := scope["path"]).startswith(PREFIX) or "\n" in path:
            await self._app(scope, receive, send)
            return
        try:
            await self._registry.answer(path[len(PREFIX) :], scope, receive, send)
        except Exception as error:
            if not scope.get("accordion", {}).get("started"):
                await self._failure(error)(scope, receive, send)
            raise
