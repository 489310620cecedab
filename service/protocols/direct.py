"""Takes a single image's request straight to its route, past the layers of the framework.

The framework's own way there (its exception and telemetry layers, its routers, their exit stacks)
took a third of a small request's time on the event loop. What those layers do for this route, which
keeps nothing open and reads its own parameters, is done here in a few lines.
"""

from collections.abc import Sequence

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from contract.errors import LongskipError
from service.protocols.problems import problem_for, problem_response
from service.protocols.segment_options import SegmentRoute
from service.trace import SCOPE_KEY

TOLD = (LongskipError, HTTPException, RequestValidationError)
"""Errors that are told to the client; any other is a fault of the service."""


class Direct:
    """ASGI middleware, the innermost of ours; all but POST to its routes goes on to the app."""

    def __init__(self, app: ASGIApp, routes: Sequence[SegmentRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            path = get_route_path(scope)
            for route in self._routes:
                found = route.path_regex.match(path)
                if found is not None:
                    scope["route"] = route
                    answer = await _answer(route, found.groupdict(), Request(scope, receive))
                    await answer(scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def _answer(route: SegmentRoute, found: dict[str, str], request: Request) -> Response:
    convertors = route.param_convertors
    try:
        return await route.respond(
            request, {name: convertors[name].convert(text) for name, text in found.items()}
        )
    except TOLD as error:
        return problem_response(problem_for(error), request.scope, request.scope[SCOPE_KEY])
