"""Every error of the tree has its status, and only our own texts go out."""

import json

import pytest
from starlette.exceptions import HTTPException

from contract.errors import (
    BrokenImage,
    ChannelMismatch,
    ImageTooLarge,
    LongskipError,
    ModelBroken,
    ModelNotFound,
    OutOfMemory,
    RequestInvalid,
    UnsupportedImage,
)
from imaging.errors import ImageError
from service import errors
from service.errors import Overloaded
from service.protocols.problems import problem_for, problem_response
from service.trace import Trace

STATUSES = {
    UnsupportedImage: 415,
    BrokenImage: 422,
    ImageTooLarge: 413,
    ChannelMismatch: 422,
    ImageError: 422,
    ModelNotFound: 404,
    OutOfMemory: 503,
    RequestInvalid: 422,
    errors.BodyTooLarge: 413,
    errors.BodyTooSlow: 408,
    errors.BodyMalformed: 400,
    errors.NotAcceptable: 406,
    errors.MediaTypeUnsupported: 415,
    errors.KeyMissing: 401,
    errors.Forbidden: 403,
    errors.ModelNotReady: 503,
    errors.Stopping: 503,
    errors.DeadlineExceeded: 504,
    errors.ClientGone: 499,
}


@pytest.mark.parametrize(("kind", "status"), STATUSES.items())
def test_our_errors_go_out_with_their_text(kind: type[LongskipError], status: int) -> None:
    problem = problem_for(kind("what came; what to do"))
    assert problem.kind.status == status
    assert problem.detail == "what came; what to do"


def test_every_error_of_the_service_has_its_status() -> None:
    own = [
        cls
        for cls in vars(errors).values()
        if isinstance(cls, type) and cls.__module__ == errors.__name__
    ]
    # These are told at the start, never to a client.
    at_the_start = {errors.AddressUnavailable, errors.KeysInvalid, errors.PoliciesInvalid}
    assert set(own) <= {*STATUSES, Overloaded, *at_the_start}
    assert len(own) == 15


def test_overloaded_says_when_to_come_again() -> None:
    problem = problem_for(Overloaded("full", reason="queue"))
    assert problem.kind.status == 429
    assert int(problem.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    "error", [ValueError("/srv/secret"), ModelBroken("/srv/secret"), LongskipError("/srv/secret")]
)
def test_what_is_not_the_clients_fault_is_500_without_its_text(error: Exception) -> None:
    problem = problem_for(error)
    assert problem.kind.status == 500
    assert "secret" not in problem.detail


def test_http_errors_keep_their_headers_and_lose_their_text() -> None:
    problem = problem_for(HTTPException(405, "secret", headers={"Allow": "GET"}))
    assert (problem.kind.status, problem.kind.slug) == (405, "method-not-allowed")
    assert problem.headers["Allow"] == "GET"
    assert "secret" not in problem.detail


@pytest.mark.parametrize(
    ("path", "root_path", "v2"),
    [
        ("/v1/models", "", False),
        ("/v2/models", "", True),
        ("/tool/v2/models", "/tool", True),
        ("/", "", False),
    ],
)
def test_the_form_is_that_of_the_protocol(path: str, root_path: str, v2: bool) -> None:
    scope = {"type": "http", "path": path, "root_path": root_path}
    trace = Trace(request_id="r1")
    answer = problem_response(problem_for(ModelNotFound("none")), scope, trace)
    body = json.loads(bytes(answer.body))
    assert answer.status_code == 404
    assert trace.refused_for == "model-not-found"
    if v2:
        assert body == {"error": "none"}
    else:
        assert answer.media_type == "application/problem+json"
        assert (body["status"], body["request_id"]) == (404, "r1")
