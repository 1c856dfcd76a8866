"""The endpoint as one ASGI application."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401  asyncio does so with its first thread: there may be no descriptor left by then
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from accordion.endpoint.accel import Accel
from accordion.endpoint.catalog import RESCAN_S, Catalog
from accordion.endpoint.clients import Clients, Proxies
from accordion.endpoint.descriptors import lacking
from accordion.endpoint.express import Express
from accordion.endpoint.fork import Fork
from accordion.endpoint.gate import Gate, caller_of, permit
from accordion.endpoint.limits import Limits
from accordion.endpoint.load import Load
from accordion.endpoint.logs import Form, RequestLines, configure
from accordion.endpoint.metrics import CONTENT_TYPE, Measured, Metrics
from accordion.endpoint.openapi import openapi
from accordion.endpoint.planner import Planner
from accordion.endpoint.registry import Registry
from accordion.endpoint.remote import REFRESH_S
from accordion.endpoint.replies import json_reply, oci_error, problem
from accordion.endpoint.request_log import LOG_BYTES, RequestLog
from accordion.endpoint.routing import ACCORDION
from accordion.endpoint.slow import SlowReaders, available
from accordion.endpoint.tokens import TokenFile
from accordion.endpoint.tracing import Traced, exporting_tracer
from accordion.endpoint.transfers import Transfers
from accordion.endpoint.tuf import TufFiles
from accordion.errors import StorageError
from accordion.planning import DEFAULT_THROUGHPUT_BPS, Overhead

__all__ = ["create_app"]

LOG = logging.getLogger("accordion.endpoint")


def create_app(
    directories: Sequence[Path | str],
    *,
    default_throughput_bps: float = DEFAULT_THROUGHPUT_BPS,
    overhead: Overhead | None = None,
    capacity_bps: float | None = None,
    limits: Limits | None = None,
    tokens: Path | str | None = None,
    trusted_proxies: Sequence[str] = (),
    log: Form | None = None,
    trace: bool = False,
    rescan_s: float = RESCAN_S,
    registry_refresh_s: float = REFRESH_S,
    request_log: Path | str | None = None,
    request_log_bytes: int = LOG_BYTES,
    tuf: Path | str | None = None,
    accel_redirect: str | None = None,
    accel_export: Path | str | None = None,
) -> ASGIApp:
    """An application over the packages in `directories`; any ASGI server can run it.

    Args:
        directories: packages, folders that hold packages, and addresses of packages in registries (texts with `://`).
        default_throughput_bps: what a plan assumes of the link, in bits/s, where the request says nothing.
        capacity_bps: what the endpoint's own line carries, in bits/s; near it, bytes are scarce (see `accordion.planning.choice`).
        overhead: round trips and bytes of a transfer beside manifest and layers; left out, the planner's own.
        limits: how much is done for whom; left out, the defaults of `Limits`.
        tokens: a file that says who may do what; left out, everybody may do everything.
        trusted_proxies: addresses and networks whose `X-Forwarded-For` is believed where clients are told apart.
        log: sets this process's loggers up, and with "text" or "json" logs each request; left out, nothing is touched.
        trace: sends a span for each request to where OpenTelemetry's variables say.
        rescan_s: how old the list of packages may be, in seconds, when an unknown name or the list is asked for.
        registry_refresh_s: the same for the tags of a package in a registry.
        request_log: a file to which each plan request is appended, with nothing that identifies a device.
        request_log_bytes: how long that file may become; one older file of that length is kept.
        tuf: a TUF repository, whose files are served under /tuf/.
        accel_redirect: the prefix under which an nginx among `trusted_proxies` sends the files of packages in this application's
            stead (see `accel`).
        accel_export: a folder made by `accordion export`, whose streams that nginx sends too.

    Raises:
        UsageError: a directory is missing, two names are equal, a file is missing or can't be one.
        StorageError: the log can't be written, or the tokens or a directory can't be read.
        FormatError: packages are named one by one and none can be served, or the tokens make no sense.
    """
    limits = limits or Limits()
    if log is not None:
        configure(log)
    token_file = None if tokens is None else TokenFile(Path(tokens), say=LOG.warning)
    catalog = Catalog(directories, rescan_s=rescan_s, refresh_s=registry_refresh_s)
    metrics, load = Metrics(), Load(capacity_bps)
    demand = None
    if request_log is not None:
        demand = RequestLog(Path(request_log), max_bytes=request_log_bytes, dropped=metrics.unlogged.inc)
    planner = Planner(
        metrics,
        default_throughput_bps=default_throughput_bps,
        overhead=overhead or Overhead(),
        load=load,
        max_body_bytes=limits.body_bytes,
        body_timeout_s=limits.body_s,
        log=demand,
    )
    clients = Clients(
        trusted_proxies,
        requests_per_s=limits.requests_per_s,
        burst=limits.burst,
        transfers=limits.transfers,
        client_transfers=limits.client_transfers,
    )
    watch = None
    if limits.min_rate_bps is not None and available():
        watch = SlowReaders(limits.min_rate_bps, limits.patience_s, metrics.cut.labels("slow").inc)
    accel = Accel.of(accel_redirect, Proxies(trusted_proxies), accel_export)
    transfers = Transfers(clients, limits, metrics, kernel_tells=watch is not None)
    registry = Registry(catalog, planner, transfers, metrics, most_ranges=limits.ranges, accel=accel)

    def look() -> tuple[list[str], dict[str, str]]:
        catalog.refresh()
        return catalog.names(), catalog.problems()

    async def healthz(request: Request) -> Response:
        _note(request, "healthz")
        names, problems = await asyncio.to_thread(look)
        caller = caller_of(request.scope)
        value = {
            "status": "ok" if names else "empty",
            "packages": len(names),
            "problems": [{"name": name, "problem": text} for name, text in sorted(problems.items()) if caller.may("pull", name)],
        }
        return json_reply(value, status=200 if names else 503, headers={"Cache-Control": "no-store"})

    async def expose(request: Request) -> Response:
        _note(request, "metrics")
        if (refusal := permit(request.scope, metrics, "metrics")) is not None:
            return refusal
        metrics.stale_tokens.set(int(token_file is not None and token_file.problem is not None))
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

    def failure(error: Exception) -> Response:
        if isinstance(error, StorageError) or lacking(error):
            LOG.warning("a request can't be answered just now: %s", error)
            return transfers.unavailable()
        return problem(500, "failure", "the endpoint failed; its log says why")

    async def answer_failure(request: Request, error: Exception) -> Response:
        return failure(error)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if watch is not None:
            watch.start()
        yield
        if watch is not None:
            await asyncio.to_thread(watch.stop)
        if demand is not None:
            await asyncio.to_thread(demand.close)

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
        exception_handlers={HTTPException: _refuse, StorageError: answer_failure, 500: answer_failure},
    )
    app.router.redirect_slashes = False
    inside: ASGIApp = Gate(Fork(app, registry, failure), metrics, clients, token_file)
    if trace:
        inside = Traced(inside, exporting_tracer())
    lines = RequestLines() if log in ("text", "json") else None
    made = Measured(inside, metrics, load, lines)
    if trace or lines is not None or token_file is not None or not clients.alike:
        return made
    return Express(made, catalog, planner, metrics, load)


def _note(request: Request, route: str) -> None:
    request.scope.get("accordion", {})["route"] = route


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = {404: "unknown", 405: "method"}.get(error.status_code, "invalid")
    detail = "there is nothing at this path" if error.status_code == 404 else error.detail
    path = request.scope["path"]
    if (
        error.status_code == 404 and path.startswith("/v2/") and f"/{ACCORDION}/" not in path
    ):  # an end of a line, which no route takes
        return oci_error(404, "NAME_UNKNOWN", detail)
    return problem(error.status_code, kind, detail, headers=error.headers)
