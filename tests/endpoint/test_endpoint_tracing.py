from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from accordion.endpoint import app as app_module
from accordion.endpoint import tracing

SECRET = "c0ffee-of-a-device"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(app_module, "exporting_tracer", lambda: provider.get_tracer("test"))
    return exporter


async def test_a_span_a_request_with_nothing_of_the_client(
    spans: InMemorySpanExporter, package: Any, connect: Callable[..., httpx.AsyncClient], tmp_path: Path
) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"traceparent": parent, "User-Agent": SECRET, "Authorization": f"Bearer {SECRET}", "baggage": f"who={SECRET}"}
    async with connect(tmp_path / "packages", trace=True) as client:
        await client.get("/v2/team/net/manifests/latest", headers=headers)
        await client.get(f"/v2/{SECRET}/tags/list", headers={"traceparent": "nonsense"})
    first, second = spans.get_finished_spans()
    assert (first.name, first.kind) == ("manifest", SpanKind.SERVER)
    assert first.attributes is not None
    assert first.attributes["http.route"] == "manifest"
    assert first.attributes["http.response.status_code"] == 200
    assert first.attributes["accordion.package"] == "team/net"
    assert first.context is not None
    assert f"{first.context.trace_id:032x}" in parent
    assert second.context is not None
    assert second.context.trace_id != first.context.trace_id
    assert SECRET not in first.to_json() + second.to_json()


async def test_a_failure_is_marked(
    spans: InMemorySpanExporter,
    package: Any,
    connect: Callable[..., httpx.AsyncClient],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("accordion.endpoint.registry.parse_target", broken)
    async with connect(tmp_path / "packages", trace=True) as client:
        with pytest.raises(RuntimeError):
            await client.get("/v2/")
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert SECRET not in span.to_json()


async def test_spans_are_sent_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real exporter to a real collector's address; its body is protobuf, of which the names are plain text."""
    bodies: list[bytes] = []

    async def collect(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response()

    collector = web.Application()
    collector.router.add_post("/v1/traces", collect)
    async with TestServer(collector) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", str(server.make_url("")).rstrip("/"))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "our-endpoint")
        tracer = tracing.exporting_tracer()
        with tracer.start_as_current_span("a-name"):
            pass
        processor: Any = tracer.span_processor  # type: ignore[attr-defined]
        await asyncio.to_thread(processor.force_flush)
        await asyncio.to_thread(processor.shutdown)
    assert b"a-name" in bodies[0]
    assert b"our-endpoint" in bodies[0]
    assert b"host.name" not in bodies[0]
