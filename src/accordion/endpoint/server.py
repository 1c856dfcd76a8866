"""Running the endpoint on granian, a production server: processes, signals, and the address to tell people."""

from __future__ import annotations

import errno
import logging
import math
import multiprocessing
import multiprocessing.connection
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from starlette.types import ASGIApp

from accordion.endpoint.accel import Accel
from accordion.endpoint.app import create_app
from accordion.endpoint.catalog import Catalog
from accordion.endpoint.clients import Proxies
from accordion.endpoint.descriptors import CONNECTIONS, needed, places, raise_limit
from accordion.endpoint.limits import Limits
from accordion.endpoint.logs import Form, server_config
from accordion.endpoint.request_log import check as check_log
from accordion.endpoint.tls import check_pair
from accordion.endpoint.tokens import TokenFile
from accordion.endpoint.tracing import exporting_tracer
from accordion.endpoint.tuf_export import repository_folder
from accordion.errors import AccordionError, UsageError

__all__ = ["Front", "serve"]

LOG = logging.getLogger("accordion.endpoint")

MOST_CONNECTIONS = 2**20  # no process has more descriptors
GRACE_S = 30.0  # how long transfers under way may take to end after a signal to stop


@dataclass(frozen=True, slots=True)
class Front:
    """What the server itself bounds, before a request is one. HTTP/1.1 is all that it speaks: one request a connection at a time.

    Raises:
        UsageError: a value makes no sense.
    """

    header_bytes: int = 64 * 1024
    """Bytes of a request's line and headers (at most 100 of them); more is answered 431."""
    header_s: float = 15.0
    """Seconds for these to arrive, and for an idle connection to say something again."""
    connections: int = CONNECTIONS
    """Connections at once; who comes beyond waits in the kernel's queue. Fewer where there are no descriptors for so many."""
    certificate: Path | None = None
    key: Path | None = None
    """PEM files; with them, TLS 1.2 or newer and nothing else."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise UsageError("TLS needs both, a certificate and its key")
        if not 8192 <= self.header_bytes <= 2**24:
            raise UsageError(f"headers of {self.header_bytes} bytes: the bound must lie between 8 KiB and 16 MiB")
        if not 0.1 <= self.header_s <= 3600:
            raise UsageError(f"{self.header_s:g} s for headers: the bound must lie between 100 ms and 1 h")
        if not 1 <= self.connections <= MOST_CONNECTIONS:
            raise UsageError(f"{self.connections} connections: the bound must lie between 1 and {MOST_CONNECTIONS}")


def serve(
    directories: Sequence[Path | str],
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    workers: int = 1,
    on_ready: Callable[[str], None] | None = None,
    grace_s: float = GRACE_S,
    capacity_bps: float | None = None,
    front: Front | None = None,
    limits: Limits | None = None,
    log: Form = "none",
    **how: Any,
) -> None:
    """Serves packages until the process is told to stop (SIGINT or SIGTERM); transfers under way are finished first.

    SIGHUP starts every worker anew, one after the other, with the files as they then are (certificate, tokens, packages); the old
    one finishes what it has under way. Where one of these files makes no sense any more, all go on as they were; the log
    says why.

    Args:
        directories: packages, folders that hold packages, and addresses of packages in registries (texts with `://`).
        host: the address or name to listen at.
        port: the port, 0 for any free one.
        workers: processes; each counts its own metrics.
        on_ready: called with the endpoint's URL when it answers; left out, the URL is printed to standard error.
        grace_s: seconds that transfers under way may take to end.
        capacity_bps: as in `create_app`, for all workers together.
        front: what the server itself bounds; `connections` are all workers' together, fewer where descriptors are.
        limits: as in `create_app`; `transfers` are all workers' together, what is for each client each worker counts for itself.
        log: the form of the log on standard error; "none": only what goes wrong, as text.
        how: as in `create_app`.

    Raises:
        UsageError: a directory, host, port, file or limit makes no sense.
        FormatError: packages are named one by one and none can be served, or the tokens make no sense.
        AccordionError: the port can't be had.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"{port} is no port: 0 to 65535")
    if not 1 <= workers <= 1024:
        raise UsageError(f"{workers} is no number of workers: 1 to 1024")
    if not 1 <= grace_s <= 86400:
        raise UsageError(f"{grace_s:g} s to end transfers in: it must lie between 1 s and a day")
    front, limits = front or Front(), limits or Limits()
    if limits.transfers is not None:
        limits = replace(limits, transfers=max(1, limits.transfers // workers))
    how |= {"limits": limits, "log": log}
    if capacity_bps is not None:
        how["capacity_bps"] = capacity_bps / workers
    # What is wrong is said here, once; the workers make their own.
    if how.get("trace"):
        exporting_tracer()
    sound = partial(_check_files, directories, front, how)
    sound()
    connections, bounded = _connections(directories, max(1, front.connections // workers))
    with _reserve(host, port) as reserved:
        address, port = reserved.getsockname()[:2]
        scheme = "http" if front.certificate is None else "https"
        url = f"{scheme}://{f'[{address}]' if ':' in address else address}:{port}"
        server = _Server(
            sound,
            "accordion",
            address=address,
            port=port,
            interface=Interfaces.ASGI,
            workers=workers,
            workers_kill_timeout=math.ceil(grace_s),
            websockets=False,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=round(front.header_s * 1000), max_buffer_size=front.header_bytes),
            backpressure=connections,
            ssl_cert=front.certificate,
            ssl_key=front.key,
            ssl_protocol_min=SSLProtocols.tls12,
            log_level=LogLevels.warning,
            log_dictconfig=server_config(log),
        )
        stopping = threading.Event()
        announcer = threading.Thread(target=_announce, args=((address, port), url, on_ready or _print, stopping), daemon=True)
        announcer.start()
        try:
            server.serve(target_loader=partial(_load, [str(path) for path in directories], how, bounded), wrap_loader=False)
        except SystemExit as error:
            if error.code:
                raise AccordionError("the endpoint stopped because a worker failed; its log says why") from error
        finally:
            stopping.set()
            announcer.join()


def _check_files(directories: Sequence[Path | str], front: Front, how: dict[str, Any]) -> None:
    """What workers read when they start. Raises as `serve` does."""
    Catalog(directories, whole=False)
    if (demand := how.get("request_log")) is not None:
        check_log(Path(demand))
    if (tokens := how.get("tokens")) is not None:
        TokenFile(Path(tokens))
    if front.certificate is not None and front.key is not None:
        check_pair(front.certificate, front.key)
    Accel.of(how.get("accel_redirect"), Proxies(how.get("trusted_proxies", ())), how.get("accel_export"))
    if (tuf := how.get("tuf")) is not None:
        repository_folder(Path(tuf))


class _Server(Granian):  # type: ignore[misc, valid-type]  # which of granian's servers it is depends on the interpreter
    """Workers that serve go on where new ones could not start: a worker that can't ends the whole endpoint."""

    def __init__(self, sound: Callable[[], None], *settings: Any, **named: Any) -> None:
        super().__init__(*settings, **named)
        self._sound = sound

    def signal_handler_reload(self, *told: Any, **named: Any) -> None:
        try:
            self._sound()
        except AccordionError as error:
            LOG.error("SIGHUP: the workers go on as they were, since new ones could not start: %s", error)
        else:
            super().signal_handler_reload(*told, **named)


def _connections(directories: Sequence[Path | str], wanted: int) -> tuple[int, str | None]:
    """For how many connections a worker has descriptors, at most `wanted`; and what to say where they are fewer.

    The limit of this process is raised as far as it may be; workers inherit it. UsageError where not one connection has room.
    """
    far = any("://" in str(directory) for directory in directories)
    found = raise_limit()
    room = places(found, far=far)
    if room < 1:
        raise UsageError(f"an endpoint needs {needed(1, far=far)} open files, and a process may have {found} here: see ulimit -n")
    if room >= wanted:
        return wanted, None
    more = f"for {wanted}, raise the hard limit to {needed(wanted, far=far)} (ulimit -n)"
    return room, f"at most {room} connections at once: this process may have {found} files open; {more}"


def _load(directories: list[str], how: dict[str, Any], bounded: str | None) -> ASGIApp:
    """Makes the application, in the worker's process."""
    _end_with_parent()
    app = create_app(directories, **how)
    if bounded is not None:
        LOG.warning("%s", bounded)
    return app


def _end_with_parent() -> None:
    """A worker whose endpoint was killed would go on unseen and keep the port, so that no new one could start there."""
    if (parent := multiprocessing.parent_process()) is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _reserve(host: str, port: int) -> socket.socket:
    """A socket bound to the port but not listening: it holds the port, and finds a free one for 0, while the workers share it.

    Workers share a port by SO_REUSEPORT, which would also let two endpoints share one unnoticed; so a plain bind is tried first.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # "localhost" is often both; most programs that are told 127.0.0.1 mean the same by it.
        family, kind, _, _, where = min(found, key=lambda one: one[0] != socket.AF_INET)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{host!r} is no address of this machine: {error}") from error
    made: socket.socket | None = None
    try:
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(where)
            where = trial.getsockname()
            made = socket.socket(family, kind)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(where)
    except OSError as error:
        if made is not None:
            made.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"{host!r} is no address of this machine") from error
        raise AccordionError(f"can't listen at {host}, port {port}: {error.strerror or error}; is it taken?") from error
    return made


def _announce(address: tuple[str, int], url: str, tell: Callable[[str], None], stopping: threading.Event) -> None:
    """Tells the URL as soon as somebody answers there: with thousands of packages that takes workers a while."""
    while not stopping.wait(0.02):
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            continue
        tell(url)
        return


def _print(url: str) -> None:
    print(f"serving at {url}", file=sys.stderr, flush=True)
