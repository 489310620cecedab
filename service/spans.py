"""Requests and their stages as spans of OpenTelemetry, sent to a collector by OTLP over HTTP.

Imported only where ``LONGSKIP_TRACES`` names a collector. Spans go by way of a queue and a thread:
no request waits for the collector, and where it is away, spans are dropped.

Attributes follow the semantic conventions for HTTP servers but for ``url.path``, ``url.query``,
``client.address`` and ``user_agent.original``: they hold what the client sent, or who it is.
"""

import threading
import time
from http import HTTPStatus

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from contract.version import __version__
from service.trace import Trace
from service.traceparent import TraceParent

EXPORT_WITHIN_S = 3.0
# At the end: what a collector that is away may hold the process up.
FLUSH_WITHIN_S = 2.0


class Spans:
    """The way to one collector, open for as long as the app runs."""

    def __init__(self, collector: str) -> None:
        """Open it; nothing is sent yet.

        Args:
            collector: ``http://host:4318``, as OTEL_EXPORTER_OTLP_ENDPOINT is written.
        """
        service = {"service.name": "longskip", "service.version": __version__}
        # Who runs it may name it otherwise, by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
        resource = Resource.create(service).merge(OTELResourceDetector().detect())
        endpoint = f"{collector.rstrip('/')}/v1/traces"
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_WITHIN_S)
        # Recorded is what OTEL_TRACES_SAMPLER says; unset, all but what a client does not record.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("longskip", __version__)

    def begin(self, trace: Trace) -> None:
        """Begin a request's span, and let its trace keep the times of stages."""
        span = self._tracer.start_span(
            "request",
            context=_context(trace.parent),
            kind=otel.SpanKind.SERVER,
            start_time=_unix_ns(trace.started_s),
        )
        known = span.get_span_context()
        trace.place = TraceParent(
            otel.format_trace_id(known.trace_id),
            otel.format_span_id(known.span_id),
            known.trace_flags.sampled,
        )
        if isinstance(span, Span):  # it is recorded
            trace.span = span
            trace.timeline = []

    def end(self, trace: Trace, *, scheme: str, method: str, route: str, status: int) -> None:
        """End a request's span, with one below it for each stage."""
        span = trace.span
        if not isinstance(span, Span):
            return
        context = otel.set_span_in_context(span)
        for stage, began_s, ended_s in trace.timeline or ():
            part = self._tracer.start_span(stage, context, start_time=_unix_ns(began_s))
            part.end(_unix_ns(ended_s))
        span.update_name(f"{method} {route}".strip())
        span.set_attributes(_attributes(trace, method=method, route=route, status=status))
        span.set_attribute("url.scheme", scheme)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(otel.StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Send what is left, within seconds even where nobody takes it. It blocks."""
        give_up = threading.Timer(FLUSH_WITHIN_S, self._exporter.shutdown)
        give_up.start()
        self._provider.shutdown()
        give_up.cancel()
        give_up.join()


def _context(parent: TraceParent | None) -> Context:
    if parent is None:
        return Context()
    caller = otel.SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.span_id, 16),
        is_remote=True,
        trace_flags=otel.TraceFlags(otel.TraceFlags.SAMPLED if parent.sampled else 0),
    )
    return otel.set_span_in_context(otel.NonRecordingSpan(caller), Context())


def _attributes(
    trace: Trace, *, method: str, route: str, status: int
) -> dict[str, str | int | bool]:
    known: dict[str, str | int] = {
        "http.request.method": "_OTHER" if method == "other" else method,
        "http.route": route,
        "http.response.status_code": status,
        "error.type": trace.refused_for if status >= HTTPStatus.BAD_REQUEST else "",
        "longskip.format": trace.answer_format,
        "longskip.skip_gain": trace.skip_gain,
    }
    if trace.model is not None:
        known |= {
            "longskip.model": trace.model.name,
            "longskip.version": trace.model.version,
            "longskip.provider": trace.model.provider,
            "longskip.precision": trace.model.precision,
            "longskip.images": trace.images,
        }
    return {name: value for name, value in known.items() if value != ""}


def _unix_ns(monotonic_s: float) -> int:
    """Return when it was by the wall clock that ``time.monotonic()`` said this."""
    return time.time_ns() - round((time.monotonic() - monotonic_s) * 1e9)
