"""A client of the service, with httpx alone: ask, wait when told to, ask again.

    from service.client import Client

    with Client("http://127.0.0.1:8000") as client:
        answer = client.segment("image.png", model="nuclei")
        Path("mask.png").write_bytes(answer.content)

``segment_many`` sends several images in one request. ``AsyncClient`` is the same with ``await``.
A request is sent again where the service has no room now (429, 503), after the seconds that it
names, and where the connection breaks: asking twice for a segmentation changes nothing.
"""

import asyncio
import io
import json
import os
import random
import time
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import quote

import httpx

Image: TypeAlias = bytes | str | os.PathLike[str]
"""An image file's bytes, or where it lies. Only the bytes are sent, never the name."""

Version: TypeAlias = int | str
"""A number, or an alias such as ``stable``."""

AGAIN = (429, 503)
MANY_AT_ONCE = 32
# A connection that breaks; not an answer that takes too long, which would do so again.
BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 20.0


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

    content: bytes
    media_type: str
    model: str
    version: int
    sha256: str
    provider: str
    precision: str
    request_id: str


class _Retries:
    """When to ask again, for both clients."""

    def __init__(self, *, attempts: int, deadline_s: float) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be 1 or more, got {attempts}")
        self._attempts = attempts
        self._deadline_s = deadline_s

    def wait_s(
        self,
        attempt: int,
        outcome: httpx.Response | httpx.TransportError,
        *,
        began_s: float,
    ) -> float | None:
        """Return how long to wait before asking again; None: do not.

        Args:
            attempt: how often it was asked, from 1.
            outcome: the response, or how the connection broke.
            began_s: when it was asked first, by ``time.monotonic()``.
        """
        # Doubled each time, and not the same for all clients that were turned away together.
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        if isinstance(outcome, httpx.Response):
            named_s = _named_wait_s(outcome.headers.get("retry-after", ""))
            # A 503 that names no time is a model that is out of use: waiting does not help.
            if outcome.status_code not in AGAIN or named_s is None:
                return None
            wait_s = max(wait_s, named_s)
        elif not isinstance(outcome, BROKEN):
            return None
        in_time = time.monotonic() - began_s + wait_s <= self._deadline_s
        return wait_s if attempt < self._attempts and in_time else None


def _named_wait_s(retry_after: str) -> float | None:
    """Return the seconds of a Retry-After header; proxies write a date (RFC 9110, 10.2.3)."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, at.timestamp() - time.time())


def _segment_request(
    image: Image, model: str, version: Version | None, options: Mapping[str, object]
) -> dict[str, Any]:
    return {
        "method": "POST",
        "url": f"{_place(model, version)}/segment",
        "params": _params(options),
        "content": _content(image),
        "headers": {"Content-Type": "application/octet-stream"},
    }


def _segment_many_request(
    images: Sequence[Image], model: str, version: Version | None, options: Mapping[str, object]
) -> dict[str, Any]:
    return {
        "method": "POST",
        "url": f"{_place(model, version)}/segment-many",
        "params": _params(options),
        "files": [("file", ("image", _content(image))) for image in images],
    }


def _compare_request(
    image: Image, models: Sequence[str], options: Mapping[str, object]
) -> dict[str, Any]:
    return {
        "method": "POST",
        "url": "/v1/compare",
        "params": {"models": ",".join(models), **_params(options)},
        "content": _content(image),
        "headers": {"Content-Type": "application/octet-stream"},
    }


def _place(model: str, version: Version | None) -> str:
    named = "" if version is None else f"/versions/{quote(str(version), safe='')}"
    return f"/v1/models/{quote(model, safe='')}{named}"


def _params(options: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in options.items()}


def _content(image: Image) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def _with_id(request: Mapping[str, Any]) -> dict[str, Any]:
    """Give all attempts of a request one id: by it, an alias with a weight takes all or none."""
    headers = {"X-Longskip-Request-Id": token_hex(8), **request.get("headers", {})}
    return {**request, "headers": headers}


def _settings(address: str, key: str | None, timeout_s: float) -> dict[str, Any]:
    return {
        "base_url": address,
        "timeout": timeout_s,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
    }


def _checked(response: httpx.Response | httpx.TransportError, address: httpx.URL) -> httpx.Response:
    if not isinstance(response, httpx.Response):
        raise ServiceError(
            0,
            "unreachable",
            f"{address} does not answer ({type(response).__name__}); does the service run there?",
        ) from response
    if response.is_success:
        return response
    raise _refusal(response.status_code, response.content, response)


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


def _answers(response: httpx.Response) -> list[Answer | ServiceError]:
    """Read what became of each image of a request, in order."""
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        about = json.loads(archive.read("index.json"))
        media_type = about["media_type"]
        return [
            _answer(response, archive.read(one["file"]), media_type)
            if one["status"] == httpx.codes.OK
            else _refusal(one["status"], archive.read(one["file"]), response)
            for one in about["images"]
        ]


def _parts(images: Sequence[Image], at_once: int) -> Iterator[Sequence[Image]]:
    if at_once < 1:
        raise ValueError(f"at_once must be 1 or more, got {at_once}")
    for begin in range(0, len(images), at_once):
        yield images[begin : begin + at_once]


def _if_too_much(error: ServiceError, part: Sequence[Image]) -> list[Answer | ServiceError]:
    """Return what became of images that were too many bytes: nothing yet, unless it is one."""
    if error.kind != "body-too-large":
        raise error
    return [error] if len(part) == 1 else []


def _halves(part: Sequence[Image]) -> list[Sequence[Image]]:
    middle = len(part) // 2
    return [part[:middle], part[middle:]] if middle else []


def _answer(
    response: httpx.Response, content: bytes | None = None, media_type: str | None = None
) -> Answer:
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


class Client:
    """Asks a running service, one request after the other. It may be shared by threads.

    Args:
        address: such as ``http://127.0.0.1:8000``, with the path prefix if it has one.
        key: an API key where the service asks for one.
        timeout_s: of one attempt.
        attempts: how often a request is sent in all.
        deadline_s: from its first attempt, after which it is not sent again.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        timeout_s: float = 90.0,
        attempts: int = 6,
        deadline_s: float = 300.0,
    ) -> None:
        self._retries = _Retries(attempts=attempts, deadline_s=deadline_s)
        self._http = httpx.Client(**_settings(address, key, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def segment(
        self, image: Image, *, model: str, version: Version | None = None, **options: object
    ) -> Answer:
        """Segment an image.

        Args:
            image: a file's bytes, or where it lies.
            model: a name from ``models``.
            version: a number or an alias; None: the stable or newest one.
            options: ``format``, ``orientation``, ``opacity``, ``skip_gain``.

        Raises:
            ServiceError: the service refused, or does not answer.
            OSError: the file cannot be read.
        """
        return _answer(self._send(_segment_request(image, model, version, options)))

    def segment_many(
        self,
        images: Sequence[Image],
        *,
        model: str,
        version: Version | None = None,
        at_once: int = MANY_AT_ONCE,
        **options: object,
    ) -> Iterator[Answer | ServiceError]:
        """Segment images, several in one request, and yield what became of each, in order.

        What is wrong with one image is yielded in its place; the others are answered.

        Args:
            images: files' bytes, or where they lie.
            model: as for ``segment``.
            version: as for ``segment``.
            options: as for ``segment``.
            at_once: images in one request; fewer where their bytes are more than the service takes.

        Raises:
            ServiceError: the service refused a whole request, or does not answer.
            OSError: a file cannot be read.
        """
        waiting = list(_parts(images, at_once))
        while waiting:
            part = waiting.pop(0)
            try:
                request = _segment_many_request(part, model, version, options)
                answers = _answers(self._send(request))
            except ServiceError as error:
                answers = _if_too_much(error, part)
                waiting[:0] = _halves(part)
            yield from answers

    def compare(self, image: Image, *, models: Sequence[str], **options: object) -> dict[str, Any]:
        """Compare models on an image: areas by model, Dice and equal pixels by pair.

        Args:
            image: a file's bytes, or where it lies.
            models: two or more, each with a version or an alias where wanted: ``nuclei@3``.
            options: ``orientation``.

        Raises:
            ServiceError: the service refused, or does not answer.
            OSError: the file cannot be read.
        """
        found: dict[str, Any] = self._send(_compare_request(image, models, options)).json()
        return found

    def models(self) -> list[dict[str, Any]]:
        """Return what is served.

        Raises:
            ServiceError: the service refused, or does not answer.
        """
        found: list[dict[str, Any]] = self._send({"method": "GET", "url": "/v1/models"}).json()[
            "models"
        ]
        return found

    def _send(self, request: Mapping[str, Any]) -> httpx.Response:
        request, attempt, began_s = _with_id(request), 0, time.monotonic()
        while True:
            attempt += 1
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.request(**request)
            except httpx.TransportError as error:
                outcome = error
            wait_s = self._retries.wait_s(attempt, outcome, began_s=began_s)
            if wait_s is None:
                return _checked(outcome, self._http.base_url)
            time.sleep(wait_s)


class AsyncClient:
    """``Client`` for asyncio; see there."""

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        timeout_s: float = 90.0,
        attempts: int = 6,
        deadline_s: float = 300.0,
    ) -> None:
        self._retries = _Retries(attempts=attempts, deadline_s=deadline_s)
        self._http = httpx.AsyncClient(**_settings(address, key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def segment(
        self, image: Image, *, model: str, version: Version | None = None, **options: object
    ) -> Answer:
        """Segment an image; see ``Client.segment``."""
        request = await asyncio.to_thread(_segment_request, image, model, version, options)
        return _answer(await self._send(request))

    async def segment_many(
        self,
        images: Sequence[Image],
        *,
        model: str,
        version: Version | None = None,
        at_once: int = MANY_AT_ONCE,
        **options: object,
    ) -> AsyncIterator[Answer | ServiceError]:
        """Segment images, several in one request; see ``Client.segment_many``."""
        waiting = list(_parts(images, at_once))
        while waiting:
            part = waiting.pop(0)
            try:
                request = await asyncio.to_thread(
                    _segment_many_request, part, model, version, options
                )
                answers = _answers(await self._send(request))
            except ServiceError as error:
                answers = _if_too_much(error, part)
                waiting[:0] = _halves(part)
            for answer in answers:
                yield answer

    async def compare(
        self, image: Image, *, models: Sequence[str], **options: object
    ) -> dict[str, Any]:
        """Compare models on an image; see ``Client.compare``."""
        request = await asyncio.to_thread(_compare_request, image, models, options)
        found: dict[str, Any] = (await self._send(request)).json()
        return found

    async def models(self) -> list[dict[str, Any]]:
        """Return what is served; see ``Client.models``."""
        answer = await self._send({"method": "GET", "url": "/v1/models"})
        found: list[dict[str, Any]] = answer.json()["models"]
        return found

    async def _send(self, request: Mapping[str, Any]) -> httpx.Response:
        request, attempt, began_s = _with_id(request), 0, time.monotonic()
        while True:
            attempt += 1
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._http.request(**request)
            except httpx.TransportError as error:
                outcome = error
            wait_s = self._retries.wait_s(attempt, outcome, began_s=began_s)
            if wait_s is None:
                return _checked(outcome, self._http.base_url)
            await asyncio.sleep(wait_s)
