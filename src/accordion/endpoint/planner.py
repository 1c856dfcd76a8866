"""POST …/_accordion/plan: a request as JSON in, a plan or a problem as JSON out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope

from accordion.artifact.digest import is_digest
from accordion.artifact.ladder import Ladder
from accordion.artifact.manifest import Manifest
from accordion.artifact.strict_json import parse_object
from accordion.endpoint.connection import delivery_rate_bps
from accordion.endpoint.load import Load
from accordion.endpoint.metrics import Metrics
from accordion.endpoint.overdue import Overdue
from accordion.endpoint.package import Version
from accordion.endpoint.replies import BytesReply, problem
from accordion.endpoint.request_log import RequestLog
from accordion.endpoint.served import Served
from accordion.errors import FormatError, UnmeetableError
from accordion.planning import Overhead, Request, RequestError
from accordion.planning.arrival import rate_terms
from accordion.planning.choice import choose, relatives

__all__ = ["MAX_BODY_BYTES", "PLAN_HEADERS", "Planner", "Refused"]

MAX_BODY_BYTES = 64 * 1024  # a request has a few hundred bytes
BODY_TIMEOUT_S = 10.0  # for the whole body to arrive; who is slower than this can't be kept waiting for
PLAN_HEADERS = ((b"cache-control", b"no-store"), (b"content-type", b"application/json"))


_FIRST = frozenset({"deadline_s", "throughput_bps", "rtt_s", "max_bytes"})
_LARGEST = 1e18  # below what a request may say, so that nothing passes here that is refused there

LAST = {"connection": "close"}
"""Of an answer before the body was read to its end: the server closes the connection then, and a client that is not told would ask
over it again."""


class Refused(Exception):  # noqa: N818
    """Carries the answer; no failure of ours."""

    def __init__(self, status: int, kind: str, detail: str, **more: Any) -> None:
        self.reply = problem(status, kind, detail, **more)
        self.kind = kind


class Planner:
    """Plans over packages. It keeps nothing of a device between two requests."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        default_throughput_bps: float,
        overhead: Overhead,
        load: Load | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        body_timeout_s: float = BODY_TIMEOUT_S,
        log: RequestLog | None = None,
    ) -> None:
        self._metrics = metrics
        self._default_bps = default_throughput_bps
        self._overhead = overhead
        self._load = load or Load()
        self._max_body_bytes = max_body_bytes
        self._waiting = Overdue(body_timeout_s)
        self._log = log

    async def reply(self, name: str, snapshot: Served, scope: Scope, receive: Receive) -> ASGIApp:
        """The plan, or a problem that says why there is none."""
        try:
            request = self._parse(await self.body(receive))
            versions = self._choices(snapshot, request) or (await self._target(snapshot, request),)
            version = versions[0]
            held = None if request.held is None else await self._held(snapshot, request, version)
            assumes = request.throughput_bps is None and request.link is None
            throughput = self._throughput(scope) if assumes else self._default_bps
            if len(versions) > 1:
                how: dict[str, Any] = {"held": held, "default_throughput_bps": throughput, "overhead": self._overhead}
                scarce = self._load.scarce
                plan = choose(name, [one.table for one in versions], request, scarce, **how)
                version = next(one for one in versions if one.manifest.digest == plan.manifest)
            else:
                plan = version.table.plan(name, request, held=held, default_throughput_bps=throughput, overhead=self._overhead)
        except Refused as refused:
            self._metrics.plan(refused.kind)
            return refused.reply
        except RequestError as error:
            self._metrics.plan("invalid")
            return problem(422, "invalid", str(error), field=error.field)
        except UnmeetableError as error:
            self._metrics.plan("unmeetable")
            if self._log is not None:
                self._log.note(name, version.manifest.digest, request, None, error.limit)
            return problem(409, "unmeetable", str(error), limit=error.limit, nearest=error.nearest)
        self._metrics.plan("planned")
        if self._log is not None:
            self._log.note(name, plan.manifest, request, plan)
        text = version.writer.open_object(plan)
        if assumes:
            text += f',"assumed_throughput_bps":{throughput!r}'
        if len(versions) > 1 and request.prefer is None:
            text += f',"scarce":"{scarce}"'
        return BytesReply(PLAN_HEADERS, (text + "}").encode())

    def at_once(self, name: str, snapshot: Served, body: bytes, scope: Scope) -> bytes | None:
        """The plan as JSON, where there is one and nothing has to be waited for, chosen among versions, or logged; else None."""
        if self._log is not None or len(versions := snapshot.choices.get(False, ())) != 1:
            return None
        version = versions[0]
        try:
            data = parse_object(body, "the request", self._max_body_bytes) if body and not body.isspace() else {}
            if (text := self._first(name, version, data)) is not None:
                return text.encode()
            request = Request.from_json(data)
            if request.reference is not None or request.prefer is not None:
                return None
            if request.held is not None and request.held.manifest != version.manifest.digest:
                return None
            assumes = request.throughput_bps is None and request.link is None
            throughput = self._throughput(scope) if assumes else self._default_bps
            plan = version.table.plan(name, request, default_throughput_bps=throughput, overhead=self._overhead)
        except (FormatError, RequestError, UnmeetableError):
            return None
        text = version.writer.open_object(plan)
        return f'{text},"assumed_throughput_bps":{throughput!r}}}'.encode() if assumes else (text + "}").encode()

    def _first(self, name: str, version: Version, data: Mapping[str, Any]) -> str | None:
        """The plan of a device that holds nothing and says its rate; None for every other request, also for one that is wrong."""
        if not _FIRST.issuperset(data):
            return None
        rate: Any = data.get("throughput_bps")
        rtt: Any = data.get("rtt_s", 0.0)
        deadline, most = data.get("deadline_s", _LARGEST), data.get("max_bytes", 2**59)
        numbers = (float, int)  # themselves: a bool is no number here
        if type(rate) not in numbers or type(rtt) not in numbers or type(deadline) not in numbers or type(most) is not int:
            return None
        if not (1 <= rate <= _LARGEST and 0 <= rtt <= _LARGEST and 0 < deadline <= _LARGEST and 1 <= most <= _LARGEST):
            return None
        terms = rate_terms(rate, rtt, version.table.fixed_bytes(self._overhead), self._overhead)
        if (found := version.table.best_within(terms, deadline, most)) is None:
            return None
        return version.writer.first(name, *found)

    async def body(self, receive: Receive) -> bytes:
        """The body, bounded in size and time; Refused where it is too long, too late or cut off."""
        body = bytearray()
        task = self._waiting.begin()
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "malformed", "the request is cut off")
                body += message.get("body", b"")
                if len(body) > self._max_body_bytes:
                    raise Refused(413, "size", f"a request has at most {self._max_body_bytes} bytes", headers=LAST)
                if not message.get("more_body", False):
                    return bytes(body)
        except asyncio.CancelledError as error:
            if not self._waiting.struck(task):
                raise
            raise Refused(408, "time", f"the request did not arrive within {self._waiting.seconds:g} s", headers=LAST) from error
        finally:
            self._waiting.end(task)

    def _parse(self, body: bytes) -> Request:
        try:
            data = parse_object(body, "the request", self._max_body_bytes) if body.strip() else {}
        except FormatError as error:
            raise Refused(400, "malformed", str(error)) from error
        return Request.from_json(data)

    def _throughput(self, scope: Scope) -> float:
        """What is assumed of the link where the request says nothing: what the kernel saw of the connection, else the default."""
        client, server = scope.get("client"), scope.get("server")
        if client is None or server is None or server[1] is None:
            return self._default_bps
        seen = delivery_rate_bps((str(client[0]), int(client[1])), (str(server[0]), int(server[1])))
        return self._default_bps if seen is None else max(1.0, seen)

    def _choices(self, snapshot: Served, request: Request) -> tuple[Version, ...]:
        """The versions among which the plan may choose, forms of one network; none where there is no choice."""
        if request.reference is not None:
            return ()
        prefers = request.prefer is not None
        if (known := snapshot.choices.get(prefers)) is None:
            tagged = {tag: snapshot.versions[snapshot.tags[tag].digest] for tag in snapshot.model_tags()}
            tags = relatives({tag: version.ladder for tag, version in tagged.items()}, prefers=prefers)
            if not tags:  # those that `_target` would take
                tags = ["latest"] if "latest" in tagged else list(tagged) if len(tagged) == 1 else []
            known = snapshot.choices[prefers] = tuple(tagged[tag] for tag in tags)
        return known

    async def _target(self, snapshot: Served, request: Request) -> Version:
        reference = request.reference
        if reference is None:
            tags = snapshot.model_tags()
            if "latest" in tags:
                reference = "latest"
            elif len(tags) == 1:
                reference = tags[0]
            else:
                shown = ", ".join(sorted(tags)[:10])
                raise RequestError("reference", f"say which version you mean, there is no 'latest': {shown}")
        if is_digest(reference):
            version = await _version(snapshot, reference)
        else:
            document = snapshot.document(reference)
            version = snapshot.versions.get(document.digest) if document is not None else None
        if version is None:
            raise Refused(404, "unknown", "reference: this package has no model version of this tag or digest", field="reference")
        return version

    async def _held(self, snapshot: Served, request: Request, target: Version) -> tuple[Manifest, Ladder] | None:
        if request.held is None or (request.held.manifest == target.manifest.digest and request.reference is not None):
            return None
        version = await _version(snapshot, request.held.manifest)
        if version is None:
            detail = "held.manifest: this package has no model version of this digest; ask without 'held', or plan from the ladder"
            raise Refused(404, "unknown", detail, field="held.manifest")
        return version.manifest, version.ladder


async def _version(snapshot: Served, digest: str) -> Version | None:
    if snapshot.knows(digest):
        return snapshot.version(digest)
    return await asyncio.to_thread(snapshot.version, digest)
