"""The endpoint as one ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from accordion.endpoint.catalog import RESCAN_S, Catalog
from accordion.endpoint.load import Load
from accordion.endpoint.metrics import CONTENT_TYPE, Measured, Metrics
from accordion.endpoint.openapi import openapi
from accordion.endpoint.planner import BODY_TIMEOUT_S, MAX_BODY_BYTES, Planner
from accordion.endpoint.registry import Registry
from accordion.endpoint.replies import json_reply, problem
from accordion.endpoint.request_log import LOG_BYTES, RequestLog
from accordion.endpoint.tuf import TufFiles
from accordion.planning import DEFAULT_THROUGHPUT_BPS, Overhead

__all__ = ["create_app"]


def create_app(
    directories: Sequence[Path | str],
    *,
    default_throughput_bps: float = DEFAULT_THROUGHPUT_BPS,
    overhead: Overhead | None = None,
    capacity_bps: float | None = None,
    max_plan_bytes: int = MAX_BODY_BYTES,
    plan_timeout_s: float = BODY_TIMEOUT_S,
    rescan_s: float = RESCAN_S,
    request_log: Path | str | None = None,
    request_log_bytes: int = LOG_BYTES,
    tuf: Path | str | None = None,
) -> ASGIApp:
    """An application over the packages in `directories`; any ASGI server can run it.

    Args:
        directories: packages, or folders that hold packages.
        default_throughput_bps: what a plan assumes of the link, in bits/s, where the request says nothing.
        capacity_bps: what the endpoint's own line carries, in bits/s; near it, bytes are scarce (see `accordion.planning.choice`).
        overhead: round trips and bytes of a transfer beside manifest and layers; left out, the planner's own.
        max_plan_bytes: how long a plan request may be.
        plan_timeout_s: how long its body may take to arrive, in seconds.
        rescan_s: how old the list of packages may be, in seconds, when an unknown name or the list is asked for.
        request_log: a file to which each plan request is appended, with nothing that identifies a device.
        request_log_bytes: how long that file may become; one older file of that length is kept.
        tuf: a TUF repository, whose files are served under /tuf/.

    Raises:
        UsageError: a directory is missing or holds no package, two names are equal, the log can't be a file, or `tuf` is no
            repository.
        StorageError: the log can't be written.
        FormatError: not one package can be served.
    """
    catalog = Catalog(directories, rescan_s=rescan_s)
    metrics, load = Metrics(), Load(capacity_bps)
    log = None
    if request_log is not None:
        log = RequestLog(Path(request_log), max_bytes=request_log_bytes, dropped=metrics.unlogged.inc)
    planner = Planner(
        metrics,
        default_throughput_bps=default_throughput_bps,
        overhead=overhead or Overhead(),
        load=load,
        max_body_bytes=max_plan_bytes,
        body_timeout_s=plan_timeout_s,
        log=log,
    )
    registry = Registry(catalog, planner)

    def look() -> tuple[list[str], dict[str, str]]:
        catalog.refresh()
        return catalog.names(), catalog.problems()

    async def healthz(request: Request) -> Response:
        _note(request, "healthz")
        names, problems = await asyncio.to_thread(look)
        value = {
            "status": "ok" if names else "empty",
            "packages": len(names),
            "problems": [{"name": name, "problem": text} for name, text in sorted(problems.items())],
        }
        return json_reply(value, status=200 if names else 503, headers={"Cache-Control": "no-store"})

    async def expose(request: Request) -> Response:
        _note(request, "metrics")
        names, problems = await asyncio.to_thread(look)
        text = metrics.text(packages=len(names), problems=len(problems))
        return Response(text, 200, {"Cache-Control": "no-store", "Content-Type": CONTENT_TYPE})

    async def describe(request: Request) -> Response:
        _note(request, "openapi")
        return json_reply(openapi())

    files = None if tuf is None else TufFiles(Path(tuf))

    async def metadata(request: Request) -> Response:
        _note(request, "tuf")
        if files is None:
            return problem(404, "unknown", "no TUF repository is served here")
        return await asyncio.to_thread(files.reply, request)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        if log is not None:
            await asyncio.to_thread(log.close)

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/metrics", expose),
            Route("/openapi.json", describe),
            Route("/tuf/{name}", metadata),
            Route("/v2", registry),
            Route("/v2/{rest:path}", registry),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _refuse, 500: _fail},
    )
    app.router.redirect_slashes = False
    return Measured(app, metrics, load)


def _note(request: Request, route: str) -> None:
    request.scope.get("accordion", {})["route"] = route


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = {404: "unknown", 405: "method"}.get(error.status_code, "invalid")
    detail = "there is nothing at this path" if error.status_code == 404 else error.detail
    return problem(error.status_code, kind, detail, headers=error.headers)


async def _fail(request: Request, error: Exception) -> Response:
    return problem(500, "failure", "the endpoint failed; its log says why")
