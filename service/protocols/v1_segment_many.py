"""``POST /v1/models/{model}/segment-many``: many images come in, a zip of their answers goes out.

The answers come in the images' order, each as soon as it and those before it are ready, and a few
are worked on at a time: neither all images nor all answers are in memory at once. What is wrong
with one image is told in its place.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, suppress
from http import HTTPStatus
from itertools import islice
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from contract.heap import trim_heap
from service.engine.admit import Uploads, admit_many
from service.engine.encode import ENCODINGS
from service.engine.unpack import Readable
from service.errors import ClientGone, DeadlineExceeded, Overloaded
from service.protocols.observe import log_unexpected
from service.protocols.openapi import SEGMENT_MANY_BODY, SEGMENT_MANY_RESPONSES
from service.protocols.problems import UNEXPECTED, problem_body, problem_for
from service.protocols.segment_options import ModelName, Options, SegmentOptions, SegmentRoute
from service.protocols.v1_segment import Task, prepare
from service.protocols.v1_segment import segment_file as segment_once
from service.protocols.version_path import Version
from service.protocols.wait import arriving, wait_while_wanted
from service.protocols.zip_stream import ZipStream
from service.trace import SCOPE_KEY, Trace

router = APIRouter(tags=["segment"], route_class=SegmentRoute)

MEDIA_TYPE = "application/zip"
INDEX = "index.json"
AHEAD_BYTES = 32_000_000
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0
Outcome = tuple[int, str, bytes]
"""A status of HTTP, a suffix, and the bytes of an answer or of a problem document."""


@router.post(
    "/v1/models/{model}/segment-many",
    summary="Segment many images with a model's stable or newest version",
    response_class=Response,
    responses=SEGMENT_MANY_RESPONSES,
    openapi_extra=SEGMENT_MANY_BODY,
)
async def segment_many_newest(request: Request, model: ModelName, options: Options) -> Response:
    """Send the images as multipart parts `file`, or as a zip archive; a zip of answers comes back.

    Research use only; not a medical device.
    """
    return await _segment_many(request, model, None, options)


@router.post(
    "/v1/models/{model}/versions/{version:version}/segment-many",
    summary="Segment many images with a version or alias of a model",
    response_class=Response,
    responses=SEGMENT_MANY_RESPONSES,
    openapi_extra=SEGMENT_MANY_BODY,
)
async def segment_many_version(
    request: Request, model: ModelName, version: Version, options: Options
) -> Response:
    """Send the images as multipart parts `file`, or as a zip archive; a zip of answers comes back.

    Research use only; not a medical device.
    """
    return await _segment_many(request, model, version, options)


async def _segment_many(
    request: Request, model: str, version: int | str | None, options: SegmentOptions
) -> Response:
    task = await prepare(request, model, version, options, accept="")
    trace: Trace = request.scope[SCOPE_KEY]
    settings = task.running.settings
    with ExitStack() as held:
        held.enter_context(task.scheduler.claim())
        task.scheduler.check_room()
        with arriving(trace, settings.deadline_s):
            uploads = await admit_many(
                request, max_body_bytes=settings.max_body_bytes, max_files=settings.max_files
            )
        trace.images = len(uploads.files)
        return _Answers(task, uploads, trace, held.pop_all())


class _Answers(Response):
    """Sends the answers as they come, and stops when nobody takes them any more."""

    media_type = MEDIA_TYPE

    def __init__(self, task: Task, uploads: Uploads, trace: Trace, held: ExitStack) -> None:
        super().__init__(headers={"Content-Disposition": 'attachment; filename="segmented.zip"'})
        del self.headers["content-length"]
        self._task, self._uploads, self._trace, self._held = task, uploads, trace, held
        self._sent_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            # The images have the deadline; who takes the answers slowly does so as of any answer.
            with suppress(ClientGone):
                await wait_while_wanted(
                    self._send(send), scope, receive, seconds_left=None, deadline_s=float("inf")
                )
        finally:
            self._held.close()
            await self._uploads.close()
            if self._sent_bytes > AHEAD_BYTES:
                await asyncio.to_thread(trim_heap)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        in_thread = self._task.running.engine.in_codec_thread
        owner = self._task.scheduler.key[0]
        archive, index = ZipStream(), list[dict[str, Any]]()
        async with aclosing(_outcomes(self._task, self._uploads, self._trace)) as outcomes:
            async for status, suffix, content in outcomes:
                name = f"{len(index) + 1:04d}{suffix}"
                index.append({"file": name, "status": status})
                piece = await in_thread(owner, archive.add, name, content)
                del content
                self._sent_bytes += len(piece)
                await _send_more(send, piece)
                del piece
        media_type = ENCODINGS[self._task.answer_format].media_type
        about = {"media_type": media_type, "images": index}
        await _send_more(send, archive.add(INDEX, json.dumps(about).encode()))
        await send({"type": "http.response.body", "body": archive.end()})


async def _send_more(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _outcomes(task: Task, uploads: Uploads, trace: Trace) -> AsyncGenerator[Outcome, None]:
    """Yield what became of each image, in order."""
    parts = trace.parts(len(uploads.files))
    waiting = zip(uploads.files, parts, strict=True)
    # One batch runs while the next is decoded; fewer where the answers are large, because those
    # that are ready wait here for a client that may not take them.
    at_once, most_at_once = 2, 2 * task.running.settings.max_batch
    largest_bytes = 1
    ends_s = asyncio.get_running_loop().time() + task.running.settings.deadline_s - trace.elapsed_s
    begun: deque[asyncio.Task[Outcome]] = deque()
    try:
        while True:
            for file, part in islice(waiting, max(0, at_once - len(begun))):
                begun.append(asyncio.create_task(_outcome(file, task, part, ends_s)))
            if not begun:
                break
            await asyncio.wait([begun[0]])
            largest_bytes = max(largest_bytes, len(begun[0].result()[-1]))
            at_once = max(1, min(most_at_once, AHEAD_BYTES // largest_bytes))
            yield begun.popleft().result()  # and hold no answer while it is sent
    finally:
        for one in begun:
            one.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        trace.join(parts)


async def _outcome(file: Readable, task: Task, trace: Trace, ends_s: float) -> Outcome:
    try:
        content = await _segment_in_time(file, task, trace, ends_s)
    except Exception as error:
        problem = problem_for(error)
        trace.refused_for = problem.reason
        if problem.kind is UNEXPECTED:
            log_unexpected(error, trace)
        told = json.dumps(problem_body(problem, trace)).encode()
        return problem.kind.status, ".problem.json", told
    return HTTPStatus.OK, ENCODINGS[task.answer_format].suffix, content


async def _segment_in_time(file: Readable, task: Task, trace: Trace, ends_s: float) -> bytes:
    """Segment an image when there is room for it.

    The request was let in already, so its images wait for room instead of being sent back.
    """
    wait_s = FIRST_WAIT_S
    try:
        async with asyncio.timeout_at(ends_s):
            while True:
                try:
                    with task.scheduler.slot():
                        return await segment_once(file, task, trace)
                except Overloaded as error:
                    lacks_memory = error.reason == "memory"
                place = task.running.engine.budget if lacks_memory else task.scheduler
                await place.room.wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    except TimeoutError as error:
        deadline_s = task.running.settings.deadline_s
        raise DeadlineExceeded(
            f"its turn did not come within the request's {deadline_s:g} s; send fewer images in one"
        ) from error
