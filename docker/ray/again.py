"""What Ray's proxy says when a replica dies under a request: 503, come again.

Without it the proxy answers 500, which nobody may ask again after. Asking twice for a segmentation
changes nothing, so the client of the service does it by itself (``service/client/``).
"""

import json

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY_AFTER = b"1"
OURS = "x-longskip-request-id"
PROBLEM = {
    "type": "urn:longskip:problem:replica-lost",
    "title": "The replica is gone",
    "status": 503,
    "detail": "the process that worked on this request ended; send it again in a moment",
}


class SayComeAgain:
    """ASGI middleware around Ray's proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and answer it where nobody else does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = False

        async def send_noting(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                headers = MutableHeaders(scope=message)
                # Ray's own, while no replica is there; a 503 of the service says itself when.
                if message["status"] == 503 and OURS not in headers:
                    headers.setdefault("Retry-After", RETRY_AFTER.decode())
            await send(message)

        await self._app(scope, receive, send_noting)
        if not answered:
            body = json.dumps(PROBLEM).encode()
            headers = [
                (b"content-type", b"application/problem+json"),
                (b"content-length", str(len(body)).encode()),
                (b"retry-after", RETRY_AFTER),
            ]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": body})


def proxy_layers() -> list[Middleware]:
    """Return the layers around Ray's proxy, which calls this by its name (see serve_app.py)."""
    return [Middleware(SayComeAgain)]
