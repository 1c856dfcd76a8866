"""Transfers under way: how many there may be, and how slow a client may be before its place goes to somebody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accordion.endpoint.clients import Clients
from accordion.endpoint.gate import caller_of, refuse
from accordion.endpoint.limits import Limits
from accordion.endpoint.metrics import Metrics
from accordion.endpoint.replies import ContentReply
from accordion.errors import StorageError, TransferError

__all__ = ["Transfers"]

LOG = logging.getLogger("accordion.endpoint")

_FULL = {
    "transfers": (503, "busy", "as many transfers are under way as this endpoint carries; come back a little later"),
    "client_transfers": (429, "rate", "you have as many transfers under way as one client may; come back when one has ended"),
}


class _Slow(Exception):  # noqa: N818  it ends a transfer, which is what the operator asked for
    pass


class Transfers:
    """Puts a reply with content under the limits.

    A transfer that is cut off ends short of its Content-Length, so nobody takes it for whole; a device goes on from there.
    """

    def __init__(self, clients: Clients, limits: Limits, metrics: Metrics, *, kernel_tells: bool = False) -> None:
        """`kernel_tells`: somebody else watches for slow readers (`slow.SlowReaders`)."""
        self._clients, self._limits, self._metrics = clients, limits, metrics
        self.through_python = limits.through_python(kernel_tells=kernel_tells)

    def unavailable(self) -> Response:
        """What to say where bytes that were promised can't be had."""
        detail = "the bytes can't be had at the moment; come back a little later"
        return refuse(503, "busy", detail, headers={"Retry-After": str(self._limits.retry_s)})

    def watched(self, reply: ContentReply, lost: Callable[[], None] = lambda: None) -> ASGIApp:
        """`reply`, under the limits. One whose bytes are known holds its place for no time: the server has them at once.

        `lost` is told when the source of the bytes fails.
        """

        async def carried(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] != "GET":
                await reply(scope, receive, send)
                return
            client = caller_of(scope).client
            if (full := self._clients.begin(client)) is not None:
                self._metrics.refuse(full)
                await refuse(*_FULL[full], headers={"Retry-After": str(self._limits.retry_s)})(scope, receive, send)
                return
            if reply.whole is not None:
                self._clients.end(client)
                await reply(scope, receive, send)
                return
            self._metrics.traffic.transfers += 1
            try:
                await self._carry(reply, lost, scope, receive, send)
            finally:
                self._metrics.traffic.transfers -= 1
                self._clients.end(client)

        return carried

    async def _carry(self, reply: ContentReply, lost: Callable[[], None], scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._limits
        if self.through_python:  # the server would say nothing of how a file that it sends by itself goes on
            extensions = {name: value for name, value in scope.get("extensions", {}).items() if name != "http.response.pathsend"}
            scope = {**scope, "extensions": extensions}
        started, held = False, None

        async def patient(message: Message) -> None:
            nonlocal started, held
            if message["type"] == "http.response.start":  # until the first bytes are there, another answer can still be given
                held = message
                return
            if held is not None:
                await send(held)
                started, held = True, None
            if limits.min_rate_bps is None:
                await send(message)
                return
            seconds = max(limits.patience_s, len(message.get("body", b"")) * 8 / limits.min_rate_bps)
            try:
                async with asyncio.timeout(seconds):
                    await send(message)
            except TimeoutError as error:
                raise _Slow from error

        reason = "slow"
        try:
            async with asyncio.timeout(limits.transfer_s) as whole:
                await reply(scope, receive, patient)
            if held is not None:  # the client had gone before there was a byte
                await send(held)
            return
        except _Slow:
            pass
        except TimeoutError:
            if not whole.expired():
                raise
            reason = "time"
        except (StorageError, TransferError) as error:  # the disk, or the registry behind this endpoint
            LOG.warning("a transfer was cut off: %s", error)
            reason = "source"
            lost()
        self._metrics.cut.labels(reason).inc()
        scope.get("accordion", {})["cut"] = reason
        if not started:
            await self.unavailable()(scope, receive, send)
