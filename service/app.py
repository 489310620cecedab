"""The app factory: what is injected, what is loaded, which routes there are."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from contract.version import __version__
from service.engine.engine import Engine
from service.gauges import Gauges
from service.keys import Keys
from service.metrics import Metrics
from service.page import routes as page_routes
from service.protocols import (
    metrics_text,
    openapi,
    v1_compare,
    v1_models,
    v1_segment,
    v1_segment_many,
    v2_health,
    v2_infer,
    v2_models,
    v2_repository,
)
from service.protocols.closing import Closing
from service.protocols.direct import TOLD, Direct
from service.protocols.guard import Guard
from service.protocols.observe import Observe
from service.protocols.problems import problem_for, problem_response
from service.repository.keeper import Keeper
from service.repository.load import load_repository
from service.repository.repository import Repository
from service.running import Running
from service.settings import Settings
from service.trace import SCOPE_KEY

if TYPE_CHECKING:  # it loads OpenTelemetry
    from service.spans import Spans


class App(FastAPI):
    """FastAPI's routes and OpenAPI text, with layers of ours around all of the framework's.

    So that a layer may answer without those (see ``protocols/direct.py``).
    """

    def __init__(self, layers: Sequence[Middleware], **options: Any) -> None:
        super().__init__(**options)
        self._layers = layers

    def build_middleware_stack(self) -> ASGIApp:
        """Return what answers a request."""
        stack = super().build_middleware_stack()
        for layer, args, kwargs in reversed(self._layers):
            stack = layer(stack, *args, **kwargs)
        return stack


def create_app(
    settings: Settings | None = None,
    *,
    repository: Repository | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """Build the app.

    Args:
        settings: None reads the environment.
        repository: None loads ``settings.models`` when the app starts.
        metrics: None starts new ones.
    """
    settings = settings or Settings()
    metrics = metrics or Metrics()
    spans = _spans(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loaded = repository
        if loaded is None:
            loaded = await asyncio.to_thread(load_repository, settings)
        async with (
            Engine(loaded, settings, metrics) as engine,
            Keeper(loaded, engine, settings) as keeper,
        ):
            gauges = Gauges(engine, loaded, settings, lambda: bool(app.state.draining))
            app.state.running = Running(settings, loaded, engine, keeper, metrics)
            with metrics.telling(gauges):
                yield
        if spans is not None:
            await asyncio.to_thread(spans.close)

    app = App(
        _layers(settings, metrics, spans),
        title=openapi.TITLE,
        summary=openapi.SUMMARY,
        description=openapi.DESCRIPTION,
        version=__version__,
        lifespan=lifespan,
        # FastAPI's own pages load their scripts from a CDN.
        docs_url=None,
        # It would send a client to whatever host its request named.
        redirect_slashes=False,
        redoc_url=None,
        # Its telemetry would put exception texts into whatever provider is set up.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.openapi = partial(openapi.complete, app)  # type: ignore[method-assign]
    app.state.draining = app.state.closing = False
    for error in (*TOLD, Exception):  # Exception is raised again behind its answer, to be logged
        app.add_exception_handler(error, _answer_with_problem)
    v1, v2 = (
        (v1_segment, v1_segment_many, v1_compare, v1_models),
        (v2_health, v2_models, v2_infer, v2_repository),
    )
    for routes in (*v1, *v2, metrics_text, page_routes):
        app.include_router(routes.router)
    return app


async def _answer_with_problem(request: Request, error: Exception) -> Response:
    return problem_response(problem_for(error), request.scope, request.scope[SCOPE_KEY])


def _spans(settings: Settings) -> "Spans | None":
    if settings.traces is None:
        return None
    from service.spans import Spans

    return Spans(settings.traces)


def _layers(settings: Settings, metrics: Metrics, spans: "Spans | None") -> list[Middleware]:
    """Outermost first."""
    layers = [Middleware(Observe, metrics=metrics, spans=spans)]
    if settings.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
        layers.append(cors)
    layers.append(Middleware(Closing))
    known = Keys.read(settings.keys) if settings.keys is not None else None
    layers.append(Middleware(Guard, known, dev=settings.dev))
    layers.append(Middleware(Direct, v1_segment.routes()))
    return layers
