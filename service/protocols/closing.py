"""The last answers before the end: who asks now is told to ask again, over another connection."""

import asyncio
from contextlib import suppress

from starlette._utils import get_route_path
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Stopping
from service.protocols.problems import problem_for, problem_response
from service.trace import SCOPE_KEY

# So long a refused body is read and thrown away: a connection that is closed on unread bytes is
# reset, and the reset may overtake the answer.
DISCARD_WITHIN_S = 5.0


class Closing:
    """ASGI middleware that looks at ``app.state.draining`` and ``app.state.closing``.

    While draining, every answer ends its connection, so that clients leave before the end; while
    closing, all but health is refused.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http" or not scope["app"].state.draining:
            await self._app(scope, receive, send)
            return

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        if not scope["app"].state.closing or get_route_path(scope).startswith("/v2/health/"):
            await self._app(scope, receive, send_last)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_WITHIN_S):
                await _discard(receive)
        error = Stopping("the service is about to stop; send the request again in a moment")
        await problem_response(problem_for(error), scope, scope[SCOPE_KEY])(
            scope, receive, send_last
        )


async def _discard(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass
