"""One client's connection: bounded in time where uvicorn bounds nothing.

uvicorn waits for a request's head for ever, and for ever for a client that does not read its
answer. Bodies and answers under way have the deadline of ``protocols/v1_segment.py``.
"""

import asyncio
import socket

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# A head is a few hundred bytes, so only a client that does not want to send it takes longer.
HEAD_WITHIN_S = 10.0
# Of an answer, after the client's system took the last byte of it.
UNREAD_WITHIN_S = 60.0


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with a limit on the wait for a head, and one on unread answers."""

    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        _limit_unread(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Wait for the next head from its first byte on; until then uvicorn's keep-alive counts."""
        if self._head_due is None and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_head()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Go on, for the head is there."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more, for nobody is there."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._head_due = self.loop.call_later(HEAD_WITHIN_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None


def _limit_unread(transport: asyncio.Transport) -> None:
    """Let the system end a connection whose client takes no byte of its answer any more."""
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        milliseconds = round(1e3 * UNREAD_WITHIN_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
