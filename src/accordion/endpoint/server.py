"""Running the endpoint on granian, a production server: processes, signals, and the address to tell people."""

from __future__ import annotations

import errno
import multiprocessing
import multiprocessing.connection
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels
from starlette.types import ASGIApp

from accordion.endpoint.app import create_app
from accordion.endpoint.catalog import Catalog
from accordion.endpoint.request_log import check as check_log
from accordion.errors import AccordionError, UsageError

__all__ = ["serve"]

_STOP_S = 30  # how long transfers under way may take to end after a signal to stop
_READY_S = 60.0  # how long the workers may take to start listening


def serve(
    directories: Sequence[Path | str],
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    workers: int = 1,
    on_ready: Callable[[str], None] | None = None,
    stop_s: int = _STOP_S,
    capacity_bps: float | None = None,
    **limits: Any,
) -> None:
    """Serves packages until the process is told to stop (SIGINT or SIGTERM); transfers under way are finished first.

    Args:
        directories: packages, or folders that hold packages.
        host: the address or name to listen at.
        port: the port, 0 for any free one.
        workers: processes; each counts its own metrics.
        on_ready: called with the endpoint's URL when it answers; left out, the URL is printed to standard error.
        stop_s: seconds that transfers under way may take to end.
        capacity_bps: as in `create_app`, for all workers together.
        limits: as in `create_app`.

    Raises:
        UsageError: a directory, host or port makes no sense.
        FormatError: not one package can be served.
        AccordionError: the port can't be had.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"{port} is no port: 0 to 65535")
    if not 1 <= workers <= 1024:
        raise UsageError(f"{workers} is no number of workers: 1 to 1024")
    if capacity_bps is not None:
        limits = {**limits, "capacity_bps": capacity_bps / workers}
    Catalog(directories)  # says here, once, what is wrong; the workers make their own
    if (log := limits.get("request_log")) is not None:
        check_log(Path(log))
    with _reserve(host, port) as reserved:
        address, port = reserved.getsockname()[:2]
        url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
        server = Granian(
            "accordion",
            address=address,
            port=port,
            interface=Interfaces.ASGI,
            workers=workers,
            workers_kill_timeout=stop_s,
            websockets=False,
            log_level=LogLevels.warning,
        )
        stopping = threading.Event()
        announcer = threading.Thread(target=_announce, args=((address, port), url, on_ready or _print, stopping), daemon=True)
        announcer.start()
        try:
            server.serve(target_loader=partial(_load, [str(path) for path in directories], limits), wrap_loader=False)
        except SystemExit as error:
            if error.code:
                raise AccordionError("the endpoint stopped because a worker failed; its log says why") from error
        finally:
            stopping.set()
            announcer.join()


def _load(directories: list[str], limits: dict[str, Any]) -> ASGIApp:
    """Makes the application, in the worker's process."""
    _end_with_parent()
    return create_app(directories, **limits)


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
    """Tells the URL as soon as somebody answers there."""
    begin = time.monotonic()
    while not stopping.wait(0.02) and time.monotonic() - begin < _READY_S:
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            continue
        tell(url)
        return


def _print(url: str) -> None:
    print(f"serving at {url}", file=sys.stderr, flush=True)
