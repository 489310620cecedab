"""What the routes work with while the app is up; made in its lifespan."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.engine.engine import Engine
from service.metrics import Metrics
from service.repository.keeper import Keeper
from service.repository.repository import Repository
from service.settings import Settings
from service.trace import SCOPE_KEY, Trace


@dataclass(frozen=True)
class Running:
    """The collaborators of a running app."""

    settings: Settings
    repository: Repository
    engine: Engine
    keeper: Keeper
    metrics: Metrics


async def _running(request: Request) -> Running:
    running: Running = request.app.state.running
    return running


async def _trace(request: Request) -> Trace:
    trace: Trace = request.scope[SCOPE_KEY]
    return trace


RunningService = Annotated[Running, Depends(_running)]
RequestTrace = Annotated[Trace, Depends(_trace)]
