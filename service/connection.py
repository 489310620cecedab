"""One client's connection: bounded in time and size where uvicorn bounds nothing.

uvicorn waits for a request's head for ever, takes one of any size, and waits for ever for a client
that does not read its answer. Bodies and answers under way have the deadline of
``protocols/v1_segment.py``.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.protocols.problems import PROBLEM_MEDIA_TYPE, Problem, ProblemKind
from service.protocols.wait import WHEN_GONE_KEY

# A head is a few hundred bytes, so only a client that does not want to send it takes longer.
HEAD_WITHIN_S = 10.0
# Method, address and headers; browsers and proxies stay below 32 kB.
HEAD_MAX_BYTES = 1 << 16
# So long is read and thrown away what comes behind a head that was refused: a connection closed on
# unread bytes is reset, and the reset may overtake the answer.
DISCARD_FOR_S = 1.0
# Of an answer, after the client's system took the last byte of it.
UNREAD_WITHIN_S = 60.0


MALFORMED = Problem(
    ProblemKind(400, "malformed-request", "The request does not parse"),
    "the request does not parse as HTTP/1.1; send it by an HTTP client",
)
HEAD_TOO_LARGE = Problem(
    ProblemKind(431, "head-too-large", "Request Header Fields Too Large"),
    f"address and headers have more than {HEAD_MAX_BYTES} bytes; send what is large in the body",
)


class HeadTooLarge(Exception):
    """Ends the parsing of a request; the client is told by ``send_400_response``."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with limits on the wait for a head and its size, and on unread answers."""

    _head_due: asyncio.TimerHandle | None = None
    _in_head = False
    _head_bytes = 0
    _refused = False
    _call_when_gone: Callable[[], None] | None = None
    # Those that are not answered yet: several where a client sends without waiting for answers.
    _cycles: tuple[RequestResponseCycle, ...] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        _limit_unread(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Wait for the next head from its first byte on; until then uvicorn's keep-alive counts."""
        if self._refused:
            return
        if self._head_due is None and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_head()
        of_a_head = self._in_head
        super().data_received(data)
        if of_a_head and self._in_head:  # nothing else was in it
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX_BYTES and not self._refused:
                self._refuse(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Count the bytes of a new head."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()
        self.scope[WHEN_GONE_KEY] = self.when_gone  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        """Go on, for the head is there.

        Raises:
            HeadTooLarge: it is larger than any that is meant well.
        """
        self._stop_waiting()
        self._head_bytes = len(self.url) + sum(len(name) + len(of) for name, of in self.headers)
        if self._head_bytes > HEAD_MAX_BYTES:
            raise HeadTooLarge
        self._in_head = False
        super().on_headers_complete()
        unanswered = [cycle for cycle in self._cycles if not cycle.response_complete]
        self._cycles = (*unanswered, self.cycle)

    def send_400_response(self, _msg: str) -> None:
        """Refuse a request that the parser gave up, also because of ``HeadTooLarge``."""
        if self._head_bytes > HEAD_MAX_BYTES:
            self._refuse(HEAD_TOO_LARGE)
        else:
            self._refuse(MALFORMED)

    def when_gone(self, call: Callable[[], None] | None) -> None:
        """Have something called when the client goes, or nothing any more.

        A task that waits for ASGI's message of it would cost each request 0.03 ms.
        """
        self._call_when_gone = call
        if call is not None:
            self.flow.resume_reading()  # which a large body stops; nothing is noticed meanwhile
            if self.transport.is_closing():
                self.loop.call_soon(self._tell_gone)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more, for nobody is there; uvicorn would tell the last request alone."""
        self._stop_waiting()
        super().connection_lost(exc)
        for cycle in self._cycles:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self._tell_gone()
        # They hold this connection in turn, and with them the body: until the collector comes by.
        self._cycles = ()
        self.scope = self.cycle = None  # type: ignore[assignment]

    def _tell_gone(self) -> None:
        call, self._call_when_gone = self._call_when_gone, None
        if call is not None:
            call()

    def _refuse(self, problem: Problem) -> None:
        """Answer without the app, which has seen nothing of the request, and end the connection."""
        self._refused = True
        self.transport.write(_refusal(problem))
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # a former answer is under way on it
            return
        self.transport.write_eof()
        self.loop.call_later(DISCARD_FOR_S, self.transport.close)

    def _wait_for_head(self) -> None:
        self._head_due = self.loop.call_later(HEAD_WITHIN_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None


def _refusal(problem: Problem) -> bytes:
    """Return a whole answer, in the form of ``/v1`` with the member that ``/v2`` has."""
    kind = problem.kind
    told = {
        "type": f"urn:longskip:problem:{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "error": problem.detail,
    }
    body = json.dumps(told).encode()
    head = (
        f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}\r\n"
        f"Content-Type: {PROBLEM_MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


def _limit_unread(transport: asyncio.Transport) -> None:
    """Let the system end a connection whose client takes no byte of its answer any more."""
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        milliseconds = round(1e3 * UNREAD_WITHIN_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
