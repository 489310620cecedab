"""Triton's model repository extension: what is there, load it, unload it."""

import json
from typing import Any

from fastapi import APIRouter, Request, Response

from contract.errors import RequestInvalid
from service.protocols.openapi import error_answer
from service.protocols.v2_openapi import INDEX_ANSWER
from service.repository.repository import Entry, ServedModel, UnusedModel
from service.running import Running, RunningService

router = APIRouter(tags=["repository"])

BODY_BYTES_MAX = 10_000
ADMIN_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: error_answer("no version can be used, or the body has parameters"),
    401: error_answer("no key, or a wrong one"),
    403: error_answer("the key is not an admin's"),
    404: error_answer("no such model"),
    # Otherwise FastAPI documents a form of its own, which is never sent.
    422: error_answer("a name that is no name"),
}


def _body_text(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


@router.post(
    "/v2/repository/index",
    summary="List every version and its state",
    responses={200: INDEX_ANSWER, 400: error_answer("a body that does not parse")},
    openapi_extra=_body_text({"ready": {"type": "boolean"}}),
)
async def index(request: Request, running: RunningService) -> list[dict[str, str]]:
    """Return all versions; `{"ready": true}` in the body asks only for those that are in use."""
    only_ready = (await _body(request)).get("ready", False)
    if not isinstance(only_ready, bool):
        raise RequestInvalid("ready must be true or false")
    return [
        _listed(entry)
        for entry in running.repository.entries
        if not isinstance(entry, UnusedModel) or not only_ready
    ]


@router.post(
    "/v2/repository/models/{model}/load",
    summary="Load a model's versions from the folder",
    response_class=Response,
    responses=ADMIN_RESPONSES,
    openapi_extra=_body_text({"parameters": {"type": ["object", "null"], "maxProperties": 0}}),
)
async def load(request: Request, model: str) -> Response:
    """Load what is new or changed, and what was unloaded. Answers when it is in use."""
    running: Running = request.app.state.running
    if (await _body(request)).get("parameters") not in (None, {}):
        raise RequestInvalid(
            "models are loaded from the folder, as they lie there; send no parameters"
        )
    await running.keeper.load(model)
    return Response()


@router.post(
    "/v2/repository/models/{model}/unload",
    summary="Take a model out of use",
    response_class=Response,
    responses=ADMIN_RESPONSES,
)
async def unload(request: Request, model: str) -> Response:
    """Unload all versions. Who waits for an answer still gets it."""
    running: Running = request.app.state.running
    await _body(request)
    await running.keeper.unload(model)
    return Response()


async def _body(request: Request) -> dict[str, Any]:
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > BODY_BYTES_MAX:
            raise RequestInvalid(f"the body has more than {BODY_BYTES_MAX} bytes")
        pieces.append(piece)
    try:
        body = json.loads(b"".join(pieces) or b"{}")
    except (ValueError, RecursionError) as error:
        raise RequestInvalid("the body is no JSON") from error
    if not isinstance(body, dict):
        raise RequestInvalid("the body is no JSON object")
    return body


def _listed(entry: Entry) -> dict[str, str]:
    if isinstance(entry, ServedModel):
        state, reason = "READY", entry.complaint
    elif isinstance(entry, UnusedModel):
        state, reason = "UNAVAILABLE", entry.reason if entry.state == "failed" else "unloaded"
    else:
        state, reason = "READY", entry.reason
    about = {"name": entry.name, "version": str(entry.version), "state": state}
    return about | {"reason": reason} if reason else about
