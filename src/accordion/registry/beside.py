"""What the system does in its own time (looking up names, asking helpers), without anybody having to wait for its end."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["Resolver", "in_daemon"]

T = TypeVar("T")


async def in_daemon(function: Callable[[], T]) -> T:
    """What `function` returns, from a thread of its own.

    An event loop waits at its end for the threads that it lends, and the interpreter does: a caller whose deadline has come would
    wait for a name server that never answers. Nobody waits for this thread. Whoever is cancelled leaves it to itself.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(tell: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            tell(value)

    def work() -> None:
        tell: Callable[[Any], None]
        try:
            tell, value = future.set_result, function()
        except BaseException as error:  # whatever it is, the caller is told
            tell, value = future.set_exception, error  # type: ignore[assignment]
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, tell, value)

    threading.Thread(target=work, name=getattr(function, "__name__", "beside"), daemon=True).start()
    return await future


class Resolver(AbstractResolver):
    """Looks host names up as the system does."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """OSError where there is no such host."""
        look = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        found: list[ResolveResult] = []
        for kind, _, protocol, _, address in await in_daemon(look):
            if kind == socket.AF_INET6:
                if len(address) < 4:  # Python without IPv6
                    continue
                scope = address[3]
                numeric = f"{address[0]}%{scope}" if scope else str(address[0])
            else:
                numeric = str(address[0])
            found.append(
                ResolveResult(
                    hostname=host,
                    host=numeric,
                    port=int(address[1]),
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return found

    async def close(self) -> None:
        """Nothing is open."""
