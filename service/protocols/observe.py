"""The outermost layer: headers on every answer, one access line, metrics, nothing leaked."""

import asyncio
import logging
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Stopping
from service.metrics import Metrics
from service.protocols.problems import CLIENT_CLOSED_REQUEST, problem_for, problem_response
from service.trace import SCOPE_KEY, Trace, begin_trace

if TYPE_CHECKING:  # it loads OpenTelemetry
    from service.spans import Spans

CUT_SHORT = "the service stopped before the answer was there; send the request again in a moment"
NOSNIFF = (b"x-content-type-options", b"nosniff")

_access = logging.getLogger("longskip.access")
_errors = logging.getLogger("longskip.error")


class Observe:
    """ASGI middleware around all others."""

    def __init__(self, app: ASGIApp, metrics: Metrics, spans: "Spans | None") -> None:
        self._app = app
        self._metrics = metrics
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = begin_trace(scope["headers"])
        scope[SCOPE_KEY] = trace
        if self._spans is not None:
            self._spans.begin(trace)
        method = scope["method"]
        status = 0
        sent_bytes = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.get("headers", ())
                message["headers"] = [*headers, *trace.headers(), NOSNIFF]
            else:
                sent_bytes += len(message.get("body", b""))
            await send(message)

        if method == "HEAD":
            # What GET answers, without the body: uvicorn leaves that out by its own scope.
            scope = {**scope, "method": "GET"}
        try:
            await self._app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            if not scope["app"].state.closing:
                raise
            # Who stops the service a second time does not wait for answers; their clients are told.
            if status == 0:
                answer = problem_response(problem_for(Stopping(CUT_SHORT)), scope, trace)
                await answer(scope, receive, send_with_headers)
        except Exception as error:
            log_unexpected(error, trace)
            if status == 0:
                answer = problem_response(problem_for(error), scope, trace)
                await answer(scope, receive, send_with_headers)
        finally:
            status = status or CLIENT_CLOSED_REQUEST
            self._metrics.observe(trace, status)
            route = getattr(scope.get("route"), "path", "")
            known = method if method in _METHODS else "other"
            _log_access(trace, known, route, status=status, sent_bytes=sent_bytes)
            if self._spans is not None:
                self._spans.end(
                    trace, scheme=scope["scheme"], method=known, route=route, status=status
                )


def _log_access(trace: Trace, method: str, route: str, *, status: int, sent_bytes: int) -> None:
    """Write one line. The route stands for the path, which may hold anything."""
    level = logging.ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
    if not _access.isEnabledFor(level):
        return
    model, place = trace.model, trace.place
    entry = {
        "request_id": trace.request_id,
        "trace_id": place.trace_id if place is not None else "",
        "span_id": place.span_id if place is not None else "",
        "method": method,
        "route": route,
        "status": status,
        "model": f"{model.name}/{model.version}" if model is not None else "",
        "format": trace.answer_format,
        "caller": trace.caller,
        "refused_for": trace.refused_for,
        "sent_bytes": sent_bytes,
        "ms": round(trace.elapsed_s * 1e3, 1),
        "stages_ms": {name: round(s * 1e3, 1) for name, s in trace.stages_s.items()},
    }
    told = {key: value for key, value in entry.items() if value}
    # Not log(), which looks through the stack for the caller's line.
    _access.handle(logging.LogRecord(_access.name, level, __file__, 0, told, None, None))


def log_unexpected(error: Exception, trace: Trace) -> None:
    """Write where it happened; an exception's own text may quote what the client sent."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " <- ".join(f"{f.filename}:{f.lineno} {f.name}" for f in reversed(frames))
    _errors.error("request %s: %s at %s", trace.request_id, type(error).__name__, places)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
