"""What comes back: an answer, or why there is none."""

import io
import json
import zipfile
from dataclasses import dataclass, field

import httpx


class ServiceError(Exception):
    """The service refused, and says why.

    Attributes:
        status: of HTTP; 0 where no answer came.
        kind: what its problem document calls it, such as ``image-too-large``.
        detail: what came, what was expected, what to do.
        request_id: under which the service's log has it.
    """

    def __init__(self, status: int, kind: str, detail: str, request_id: str = "") -> None:
        super().__init__(f"{status or 'no answer'} {kind}: {detail}")
        self.status = status
        self.kind = kind
        self.detail = detail
        self.request_id = request_id


@dataclass(frozen=True)
class Answer:
    """A segmentation in the format that was asked for, and what made it.

    Attributes:
        content: the body.
        media_type: of it.
        model, version, sha256, provider, precision: of what answered.
        request_id: under which the service's log has it.
    """

    content: bytes = field(repr=False)
    media_type: str
    model: str
    version: int
    sha256: str
    provider: str
    precision: str
    request_id: str


def checked(response: httpx.Response | httpx.TransportError, address: httpx.URL) -> httpx.Response:
    """Return a response that is an answer.

    Raises:
        ServiceError: it is a refusal, or the connection broke.
    """
    if not isinstance(response, httpx.Response):
        raise ServiceError(
            0,
            "unreachable",
            f"{address} does not answer ({type(response).__name__}); does the service run there?",
        ) from response
    if response.is_success:
        return response
    raise _refusal(response.status_code, response.content, response)


def read_answer(
    response: httpx.Response, content: bytes | None = None, media_type: str | None = None
) -> Answer:
    """Read the answer to one image.

    Args:
        response: its headers say what answered.
        content: None: the response's own.
        media_type: of it; None: the response's own.
    """
    said = {
        name: response.headers.get(f"x-longskip-{name.replace('_', '-')}", "")
        for name in ("model", "version", "sha256", "provider", "precision", "request_id")
    }
    return Answer(
        content=response.content if content is None else content,
        media_type=media_type or response.headers.get("content-type", ""),
        model=said["model"],
        version=int(said["version"] or 0),
        sha256=said["sha256"],
        provider=said["provider"],
        precision=said["precision"],
        request_id=said["request_id"],
    )


def read_answers(response: httpx.Response) -> list[Answer | ServiceError]:
    """Read what became of each image of a request, in order."""
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        about = json.loads(archive.read("index.json"))
        media_type = about["media_type"]
        return [
            read_answer(response, archive.read(one["file"]), media_type)
            if one["status"] == httpx.codes.OK
            else _refusal(one["status"], archive.read(one["file"]), response)
            for one in about["images"]
        ]


def _refusal(status: int, told: bytes, response: httpx.Response) -> ServiceError:
    try:
        said = json.loads(told)
    except ValueError:
        said = {}
    said = said if isinstance(said, dict) else {}
    return ServiceError(
        status,
        str(said.get("type", "unknown")).rpartition(":")[2],
        str(said.get("detail") or said.get("error") or response.reason_phrase),
        response.headers.get("x-longskip-request-id", ""),
    )
