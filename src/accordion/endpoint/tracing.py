"""Traces for OpenTelemetry, where an operator asks for them: a span for each request, part of its caller's trace.

The instrumentation that there is for ASGI writes addresses, paths and user agents into spans; these hold what the log holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accordion.errors import UsageError
from accordion.extras import how_to_install

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ["Traced", "exporting_tracer"]

_CONTEXT = (b"traceparent", b"tracestate")


class Traced:
    """An ASGI application, traced. The names are those of OpenTelemetry's conventions for HTTP servers."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carried = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CONTEXT}
        parent = TraceContextTextMapPropagator().extract(carried)
        # A failure's text may hold anything, so it stays out.
        with self._tracer.start_as_current_span(
            "request", context=parent, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            status, count = 0, 0

            async def noting(message: Message) -> None:
                nonlocal status, count
                status = message.get("status", status)
                count += len(message.get("body", b""))
                await send(message)

            try:
                await self._app(scope, receive, noting)
            finally:
                notes = scope.get("accordion", {})
                route = notes.get("route", "other")
                span.update_name(route)
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                span.set_attribute("http.response.body.size", count)
                for name in ("package", "cut"):
                    if notes.get(name) is not None:
                        span.set_attribute(f"accordion.{name}", notes[name])
                if status == 0 or status >= 500:
                    span.set_status(Status(StatusCode.ERROR))


def exporting_tracer() -> Tracer:
    """A tracer that sends to where OTEL_EXPORTER_OTLP_ENDPOINT says, in a thread of its own.

    OpenTelemetry's own variables say everything else (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …).

    Raises:
        UsageError: the libraries are not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise UsageError(f"traces need {error.name}: {how_to_install('telemetry')}") from error
    # Not Resource.create(): what it finds out of itself names the machine and the process.
    resource = Resource({SERVICE_NAME: "accordion"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("accordion.endpoint")
