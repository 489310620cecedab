"""The one place where errors become HTTP answers.

``/v1`` and the rest answer problem documents (RFC 9457), ``/v2`` ``{"error": "…"}`` as the Open
Inference Protocol wants it. A text written for the reader goes out; one of a library's does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from contract import errors as contract_errors
from contract.errors import LongskipError, OutOfMemory
from service import errors as service_errors
from service.errors import KeyMissing, Overloaded, Stopping
from service.trace import Trace

PROBLEM_MEDIA_TYPE = "application/problem+json"
CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody reads it but the access log


@dataclass(frozen=True)
class ProblemKind:
    """Status, type and title of a kind of error; the slug ends the problem's ``type``."""

    status: int
    slug: str
    title: str


@dataclass(frozen=True)
class Problem:
    """One error as it is told to the client.

    Attributes:
        kind: what is told of every error like it.
        detail: what came, what was expected, what to do.
        headers: to be sent with it.
        cause: tells errors of one kind apart in log and metrics; a slug, or empty.
    """

    kind: ProblemKind
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    cause: str = ""

    @property
    def reason(self) -> str:
        """The kind's slug, and its cause where it has one."""
        return "-".join(filter(None, (self.kind.slug, self.cause)))


# An error has the kind of its nearest class here.
KINDS: dict[type[Exception], ProblemKind] = {
    contract_errors.UnsupportedImage: ProblemKind(
        415, "unsupported-image", "The image is of a kind that is not read"
    ),
    contract_errors.BrokenImage: ProblemKind(422, "broken-image", "The image does not decode"),
    contract_errors.ImageTooLarge: ProblemKind(413, "image-too-large", "Too many pixels"),
    contract_errors.ChannelMismatch: ProblemKind(
        422, "channel-mismatch", "The image's channels do not fit the model"
    ),
    contract_errors.ImageError: ProblemKind(422, "image", "The image cannot be used"),
    contract_errors.OutOfMemory: ProblemKind(503, "out-of-memory", "No memory for the image now"),
    contract_errors.ModelNotFound: ProblemKind(404, "model-not-found", "No such model"),
    contract_errors.RequestInvalid: ProblemKind(422, "invalid-request", "The request does not fit"),
    service_errors.BodyMalformed: ProblemKind(400, "malformed-body", "The body does not parse"),
    service_errors.BodyTooLarge: ProblemKind(413, "body-too-large", "Too many bytes"),
    service_errors.BodyTooSlow: ProblemKind(408, "body-too-slow", "The body came too slowly"),
    service_errors.NotAcceptable: ProblemKind(406, "not-acceptable", "No such format"),
    service_errors.MediaTypeUnsupported: ProblemKind(
        415, "unsupported-media-type", "The body is no image"
    ),
    service_errors.Overloaded: ProblemKind(429, "overloaded", "No room now"),
    service_errors.KeyMissing: ProblemKind(401, "key-missing", "A key is needed"),
    service_errors.Forbidden: ProblemKind(403, "forbidden", "The key does not open this"),
    service_errors.ModelNotReady: ProblemKind(503, "model-not-ready", "The model is not ready"),
    service_errors.Stopping: ProblemKind(503, "stopping", "The service ends"),
    service_errors.DeadlineExceeded: ProblemKind(504, "deadline", "No answer in time"),
    service_errors.ClientGone: ProblemKind(CLIENT_CLOSED_REQUEST, "client-gone", "Client gone"),
}
# The Open Inference Protocol's servers answer these by 400, which its clients expect.
V2_STATUSES = {
    slug: 400
    for slug in ("invalid-request", "channel-mismatch", "model-not-ready", "unsupported-media-type")
}
INVALID = KINDS[contract_errors.RequestInvalid]
UNEXPECTED = ProblemKind(500, "internal", "The service failed")
UNEXPECTED_DETAIL = "an unexpected error; it is in the service's log under this answer's request_id"
HTTP_DETAILS = {
    404: "there is nothing at this address; GET /openapi.json lists what there is",
    405: "this address does not take this method; the Allow header names those that it takes",
}


def problem_for(error: Exception) -> Problem:
    """Return what a client is told of an error."""
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, RequestValidationError):
        return Problem(INVALID, "; ".join(_one_line(fault) for fault in error.errors()))
    kind = next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), None)
    if kind is None or not isinstance(error, LongskipError):
        return Problem(UNEXPECTED, UNEXPECTED_DETAIL)
    if isinstance(error, KeyMissing):
        return Problem(kind, str(error), {"WWW-Authenticate": "Bearer"})
    if isinstance(error, Overloaded):
        again = {"Retry-After": str(error.retry_after_s)}
        return Problem(kind, str(error), again, cause=error.reason)
    if isinstance(error, Stopping):
        return Problem(kind, str(error), {"Retry-After": str(error.retry_after_s)})
    if isinstance(error, OutOfMemory):
        return Problem(kind, str(error), {"Retry-After": str(Overloaded.retry_after_s)})
    return Problem(kind, str(error))


def problem_response(problem: Problem, scope: Scope, trace: Trace) -> Response:
    """Return the answer in the form of the protocol that was asked."""
    kind = problem.kind
    trace.refused_for = problem.reason
    if get_route_path(scope).startswith("/v2"):
        body: dict[str, object] = {"error": problem.detail}
        status = V2_STATUSES.get(kind.slug, kind.status)
        return JSONResponse(body, status, headers=dict(problem.headers))
    return JSONResponse(
        problem_body(problem, trace),
        kind.status,
        headers=dict(problem.headers),
        media_type=PROBLEM_MEDIA_TYPE,
    )


def problem_body(problem: Problem, trace: Trace) -> dict[str, object]:
    """Return a problem document (RFC 9457)."""
    kind = problem.kind
    return {
        "type": f"urn:longskip:problem:{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "request_id": trace.request_id,
    }


def _of_http(error: HTTPException) -> Problem:
    status = HTTPStatus(error.status_code)
    kind = ProblemKind(status.value, status.phrase.lower().replace(" ", "-"), status.phrase)
    detail = HTTP_DETAILS.get(status.value, status.description or status.phrase)
    return Problem(kind, detail, error.headers or {})


def _one_line(fault: Mapping[str, object]) -> str:
    """Name the place and the rule, but not what came: it may be anything."""
    place = fault["loc"]
    name = ".".join(str(part) for part in place) if isinstance(place, tuple) else str(place)
    return f"{name}: {fault['msg']}"
