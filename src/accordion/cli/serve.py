"""`accordion serve DIR…`: the endpoint over packages."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context, document
from accordion.cli.extras import extra

__all__ = ["add", "execute"]

LEFT_OUT = object()


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="the endpoint over packages",
        description="Serves packages until it is told to stop (Ctrl-C). A package has its directory's own name, or its path "
        "below a DIR that holds several.",
    )
    parser.add_argument(
        "directories",
        nargs="+",
        type=lambda text: text if "://" in text else Path(text),
        metavar="DIR|URL/NAME[:TAG]",
        help="a package, a folder that holds packages or will, or a package in a registry",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=options.port, default=8080, help="port to listen at, 0 for any free one (8080)")
    parser.add_argument("--workers", type=options.count, default=1, help="processes (1)")
    parser.add_argument(
        "--capacity",
        type=options.bits_per_second,
        metavar="RATE",
        help="what the line carries, such as 1Gbps: near it, plans save bytes (unknown)",
    )
    parser.add_argument(
        "--registry-refresh", type=options.seconds, metavar="TIME", help="how old what is known of a registry may be (30s)"
    )
    parser.add_argument(
        "--request-log", type=Path, metavar="FILE", help="append each plan request, with nothing that identifies a device"
    )
    parser.add_argument(
        "--request-log-size", type=options.data, metavar="SIZE", help="how long that file may become; one older is kept (64MiB)"
    )
    parser.add_argument("--tuf", type=Path, metavar="REPO", help="serve a TUF repository's files too, under /tuf/")
    parser.add_argument(
        "--accel-redirect", metavar="PREFIX", help="let nginx, named by --trusted-proxy, send files that it finds under this path"
    )
    parser.add_argument("--accel-export", type=Path, metavar="DIR", help="… and streams that `accordion export` wrote to DIR")
    parser.add_argument("--log", choices=("none", "text", "json"), default="none", help="a line a request on standard error (none)")
    parser.add_argument("--trace", action="store_true", help="a span a request to OTEL_EXPORTER_OTLP_ENDPOINT (off)")
    parser.add_argument("--grace", type=options.seconds, metavar="TIME", help="to end transfers in, when told to stop (30s)")
    _add_access(parser)
    _add_limits(parser)
    return parser


def _add_access(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who may ask")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM: the certificate and those between it and the root")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM: its key, without a password")
    group.add_argument(
        "--tokens", type=Path, metavar="FILE", help="who may do what, by `accordion token`; without it everybody may"
    )
    group.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="NETWORK",
        help="whose X-Forwarded-For tells clients apart; several times for several: 10.0.0.0/8",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits", "'none' where it is allowed: no such limit. A client is a token, else an address.")
    rate = options.or_none(options.number)
    group.add_argument("--requests", dest="requests_per_s", type=rate, metavar="N", help="requests a second, each client (none)")
    group.add_argument("--burst", type=options.count, metavar="N", help="requests that a client may have saved up (100)")
    several = options.or_none(options.count)
    group.add_argument("--transfers", type=several, default=LEFT_OUT, metavar="N", help="transfers at once, all clients (1000)")
    group.add_argument("--client-transfers", type=several, metavar="N", help="transfers at once, each client (none)")
    group.add_argument(
        "--min-rate",
        dest="min_rate_bps",
        type=options.or_none(options.bits_per_second),
        default=LEFT_OUT,
        metavar="RATE",
        help="who takes less is cut off (8kbps)",
    )
    group.add_argument(
        "--patience",
        dest="patience_s",
        type=options.seconds,
        metavar="TIME",
        help="over which that is measured (30s)",
    )
    limit = options.or_none(options.seconds)
    group.add_argument("--transfer-time", dest="transfer_s", type=limit, metavar="TIME", help="for one transfer (none)")
    group.add_argument("--ranges", type=options.count, metavar="N", help="ranges in one request (512)")
    group.add_argument("--body-size", dest="body_bytes", type=options.data, metavar="SIZE", help="of a plan request (64KiB)")
    group.add_argument("--body-time", dest="body_s", type=options.seconds, metavar="TIME", help="for it to arrive (10s)")
    group.add_argument("--header-size", dest="header_bytes", type=options.data, metavar="SIZE", help="of a request's head (64KiB)")
    group.add_argument(
        "--header-time",
        dest="header_s",
        type=options.seconds,
        metavar="TIME",
        help="for it to arrive, and for idle connections (15s)",
    )
    group.add_argument("--connections", type=options.count, metavar="N", help="connections at once (2048)")


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Serves. With --json, the document on standard output says the URL as soon as the endpoint answers."""
    with extra("endpoint"):
        from accordion.endpoint import serve
        from accordion.endpoint.limits import Limits
        from accordion.endpoint.remote import REFRESH_S
        from accordion.endpoint.request_log import LOG_BYTES
        from accordion.endpoint.server import GRACE_S, Front

    def ready(url: str) -> None:
        context.console.progress(f"serving at {url}")
        if context.console.as_json:
            print(document({"url": url}), flush=True)

    serve(
        arguments.directories,
        arguments.host,
        arguments.port,
        workers=arguments.workers,
        capacity_bps=arguments.capacity,
        on_ready=ready,
        grace_s=arguments.grace or GRACE_S,
        front=Front(certificate=arguments.tls_cert, key=arguments.tls_key, **_given(arguments, Front)),
        limits=Limits(**_given(arguments, Limits)),
        log=arguments.log,
        trace=arguments.trace,
        tokens=arguments.tokens,
        trusted_proxies=arguments.trusted_proxy,
        registry_refresh_s=arguments.registry_refresh or REFRESH_S,
        request_log=arguments.request_log,
        request_log_bytes=arguments.request_log_size or LOG_BYTES,
        tuf=arguments.tuf,
        accel_redirect=arguments.accel_redirect,
        accel_export=arguments.accel_export,
    )
    return 0


def _given(arguments: argparse.Namespace, kind: type[Any]) -> dict[str, Any]:
    """The fields of a dataclass that options were given for; the others keep their defaults."""
    values = {field: getattr(arguments, field, None) for field in kind.__dataclass_fields__}
    can_be_off = ("transfers", "min_rate_bps")  # here None is an answer, and LEFT_OUT is none
    return {name: value for name, value in values.items() if (value is not LEFT_OUT if name in can_be_off else value is not None)}
