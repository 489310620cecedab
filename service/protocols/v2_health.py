"""The part of the Open Inference Protocol that says whether the service is up and ready."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from contract.version import __version__
from service.protocols.openapi import error_answer
from service.protocols.v2_openapi import (
    LIVE_ANSWER,
    MODEL_READY_ANSWER,
    READY_ANSWER,
    SERVER_ANSWER,
)
from service.protocols.version_path import VersionIfNamed
from service.repository.repository import Repository, ServedModel, UnusedModel
from service.running import RequestTrace, RunningService

router = APIRouter(tags=["health"])
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "statistics",
)
MODEL_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: error_answer("the model is there and failed its proof"),
    404: error_answer("no such model or version"),
    # Otherwise FastAPI documents a form of its own, which is never sent.
    422: error_answer("a version that is no version"),
}


@router.get("/v2", summary="Name the server", responses={200: SERVER_ANSWER})
def server_metadata() -> dict[str, Any]:
    """Return name, version, and which of Triton's extensions of the protocol are spoken."""
    return {"name": "longskip", "version": __version__, "extensions": list(EXTENSIONS)}


@router.get("/v2/health/live", summary="Is the process up?", responses={200: LIVE_ANSWER})
async def live() -> dict[str, bool]:
    """Answer from the event loop itself, so that it also tells whether that is free."""
    return {"live": True}


@router.get(
    "/v2/health/ready",
    summary="Can any model be used?",
    responses={
        200: READY_ANSWER,
        503: error_answer("no model can be used, or it is about to stop; the body says"),
    },
)
async def ready(request: Request, running: RunningService) -> Response:
    """Answer 200 when at least one model can be used, else 503 and why."""
    stopping = "it is about to stop" if request.app.state.draining else None
    why_not = stopping or _why_not_ready(running.repository)
    if why_not is None:
        return JSONResponse({"ready": True, "runs_on": _runs_on(running.repository)})
    return JSONResponse({"ready": False, "error": why_not}, status_code=503)


@router.get(
    "/v2/models/{model}/ready",
    summary="Can this model be used?",
    responses={200: MODEL_READY_ANSWER, **MODEL_RESPONSES},
)
@router.get(
    "/v2/models/{model}/versions/{version:version}/ready",
    summary="Can this version be used?",
    responses={200: MODEL_READY_ANSWER, **MODEL_RESPONSES},
)
async def model_ready(
    model: str, running: RunningService, trace: RequestTrace, version: VersionIfNamed
) -> Response:
    """Answer 200 when the model can be used, 400 when it failed, 404 when it is not there."""
    found = running.repository.find(model, version)
    if isinstance(found, ServedModel):
        trace.model = found.identity
    return JSONResponse({"name": found.name, "ready": True})


def _runs_on(repository: Repository) -> list[str]:
    """Name the providers in use and the precisions on each, but no model: anybody may ask."""
    models = (entry.model for entry in repository.ready)
    return sorted({f"{model.provider} {model.precision}" for model in models})


def _why_not_ready(repository: Repository) -> str | None:
    if repository.usable:
        return None
    failed = [
        f"{entry.name}/{entry.version}: {entry.reason}"
        for name in repository.names
        for entry in repository.versions(name)
        if isinstance(entry, UnusedModel)
    ]
    if not failed:
        return "there are no models; put <name>/<version>/model.onnx in LONGSKIP_MODELS"
    return f"no model can be used. {'; '.join(failed)}"
