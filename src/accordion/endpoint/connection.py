"""What the kernel knows of the rate of a connection. It keeps that for its own congestion control; the endpoint keeps nothing.

The server hands no socket to the application, but the connection is one of this process's, so it is found by its two addresses. The
kernel then says how fast it delivered what was sent over it before. A new connection has delivered nothing, and so says nothing.
Behind a proxy it is the proxy's link that is measured.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import suppress

__all__ = ["delivery_rate_bps"]

# struct tcp_info of Linux (include/uapi/linux/tcp.h), where tcpi_bytes_acked and tcpi_delivery_rate stand; both are 64 bits wide.
BYTES_ACKED_AT, DELIVERY_RATE_AT, INFO_BYTES = 120, 160, 168
TRUSTED_BYTES = 128 * 1024  # of less than this the kernel has seen little more than slow start (Shaka Player's figure, too)
MOST_DESCRIPTORS = 1024  # with more open files, looking through them would cost more than it tells


def delivery_rate_bps(client: tuple[str, int] | None, server: tuple[str, int] | None) -> float | None:
    """Bits a second that the kernel last delivered from `server` to `client`; None where it can't say."""
    if client is None or server is None or not sys.platform.startswith("linux"):
        return None
    with suppress(OSError, ValueError):
        descriptors = os.listdir("/proc/self/fd")  # noqa: PTH208  names are all that is wanted
        if len(descriptors) > MOST_DESCRIPTORS:
            return None
        for name in descriptors:
            if (rate := _rate(int(name), client, server)) is not None:
                return rate
    return None


def _rate(descriptor: int, client: tuple[str, int], server: tuple[str, int]) -> float | None:
    """None unless this is the connection, and the kernel says something of it."""
    try:
        if not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):  # noqa: PTH115  there may be a thousand
            return None
        found = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        if found.type != socket.SOCK_STREAM or found.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        if _plain(found.getpeername()) != client or found.getsockname()[1] != server[1]:
            return None
        info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
    except OSError:
        return None
    finally:
        found.detach()  # it is the server's, not ours to close
    if len(info) < INFO_BYTES:  # an older kernel
        return None
    acked, rate = struct.unpack_from("Q", info, BYTES_ACKED_AT)[0], struct.unpack_from("Q", info, DELIVERY_RATE_AT)[0]
    return rate * 8.0 if acked >= TRUSTED_BYTES and rate > 0 else None


def _plain(address: tuple[object, ...]) -> tuple[str, int]:
    """Host and port; an IPv4 address in IPv6's clothes as itself."""
    return str(address[0]).removeprefix("::ffff:"), int(str(address[1]))
