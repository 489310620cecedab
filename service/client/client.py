"""The two clients: one that waits, and one for asyncio. Their methods are the same, line by line.

All that does not wait is written once: requests, answers and attempts lie beside this file.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Self

import httpx

from service.client import request
from service.client.answer import Answer, ServiceError, checked, read_answer, read_answers
from service.client.attempts import Attempts, Patience
from service.client.request import Image, Version

MANY_AT_ONCE = 32
TIMEOUT_S, ATTEMPTS, DEADLINE_S = 90.0, 6, 300.0


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
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._patience = Patience(attempts, deadline_s)
        self._http = httpx.Client(base_url=address, timeout=timeout_s, headers=_headers(key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
        return read_answer(self._send(request.segment(image, model, version, options)))

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
        waiting = _parts(images, at_once)
        while waiting:
            part = waiting.popleft()
            try:
                sent = request.segment_many(part, model, version, options)
                answers = read_answers(self._send(sent))
            except ServiceError as error:
                answers = _halve(part, error, waiting)
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
        found: dict[str, Any] = self._send(request.compare(image, models, options)).json()
        return found

    def models(self) -> list[dict[str, Any]]:
        """Return what is served.

        Raises:
            ServiceError: the service refused, or does not answer.
        """
        found: list[dict[str, Any]] = self._send(request.MODELS).json()["models"]
        return found

    def _send(self, sent: request.Request) -> httpx.Response:
        attempts = Attempts(sent, self._patience)
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.request(**attempts.request)
            except httpx.TransportError as error:
                outcome = error
            wait_s = attempts.wait_s(outcome)
            if wait_s is None:
                return checked(outcome, self._http.base_url)
            time.sleep(wait_s)


class AsyncClient:
    """``Client`` for asyncio; see there. Files are read in a thread."""

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._patience = Patience(attempts, deadline_s)
        self._http = httpx.AsyncClient(base_url=address, timeout=timeout_s, headers=_headers(key))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def segment(
        self, image: Image, *, model: str, version: Version | None = None, **options: object
    ) -> Answer:
        """Segment an image; see ``Client.segment``."""
        sent = await asyncio.to_thread(request.segment, image, model, version, options)
        return read_answer(await self._send(sent))

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
        waiting = _parts(images, at_once)
        while waiting:
            part = waiting.popleft()
            try:
                sent = await asyncio.to_thread(request.segment_many, part, model, version, options)
                answers = read_answers(await self._send(sent))
            except ServiceError as error:
                answers = _halve(part, error, waiting)
            for answer in answers:
                yield answer

    async def compare(
        self, image: Image, *, models: Sequence[str], **options: object
    ) -> dict[str, Any]:
        """Compare models on an image; see ``Client.compare``."""
        sent = await asyncio.to_thread(request.compare, image, models, options)
        found: dict[str, Any] = (await self._send(sent)).json()
        return found

    async def models(self) -> list[dict[str, Any]]:
        """Return what is served; see ``Client.models``."""
        found: list[dict[str, Any]] = (await self._send(request.MODELS)).json()["models"]
        return found

    async def _send(self, sent: request.Request) -> httpx.Response:
        attempts = Attempts(sent, self._patience)
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._http.request(**attempts.request)
            except httpx.TransportError as error:
                outcome = error
            wait_s = attempts.wait_s(outcome)
            if wait_s is None:
                return checked(outcome, self._http.base_url)
            await asyncio.sleep(wait_s)


def _headers(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _parts(images: Sequence[Image], at_once: int) -> deque[Sequence[Image]]:
    if at_once < 1:
        raise ValueError(f"at_once must be 1 or more, got {at_once}")
    begins = range(0, len(images), at_once)
    return deque(images[begin : begin + at_once] for begin in begins)


def _halve(
    part: Sequence[Image], error: ServiceError, waiting: deque[Sequence[Image]]
) -> list[Answer | ServiceError]:
    """Put a part that was too many bytes back in halves; return what is told of it now.

    Raises:
        ServiceError: it was refused for another reason.
    """
    if error.kind != "body-too-large":
        raise error
    if len(part) == 1:
        return [error]
    middle = len(part) // 2
    waiting.extendleft((part[middle:], part[:middle]))
    return []
