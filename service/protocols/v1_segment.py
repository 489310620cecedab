"""``POST /v1/models/{model}/segment``: an image comes in, its labels go out."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from contract.model import Segmentation
from service.engine.admit import admit
from service.engine.cache import Held, KeptAnswer, Question
from service.engine.decode import decode
from service.engine.encode import ENCODINGS, Answer, AnswerFormat, check_fits, encode
from service.engine.scheduler import Scheduler
from service.engine.small import SmallImage, small_size_hw
from service.engine.unpack import Readable
from service.protocols.negotiate import choose_format
from service.protocols.openapi import SEGMENT_BODY, SEGMENT_RESPONSES
from service.protocols.segment_options import ModelName, Options, SegmentOptions, SegmentRoute
from service.protocols.skip_gain import Gains, choose_gains, spell_gains
from service.protocols.version_path import Version
from service.protocols.wait import arriving, wait_while_wanted
from service.running import Running
from service.trace import SCOPE_KEY, ModelIdentity, Trace

router = APIRouter(tags=["segment"], route_class=SegmentRoute)


@router.post(
    "/v1/models/{model}/segment",
    summary="Segment an image with a model's stable or newest version",
    response_class=Response,
    responses=SEGMENT_RESPONSES,
    openapi_extra=SEGMENT_BODY,
)
async def segment_newest(request: Request, model: ModelName, options: Options) -> Response:
    """Send the image as multipart part `file`, or as the raw body with its Content-Type.

    Research use only; not a medical device.
    """
    return await _segment(request, model, None, options)


@router.post(
    "/v1/models/{model}/versions/{version:version}/segment",
    summary="Segment an image with a version or alias of a model",
    response_class=Response,
    responses=SEGMENT_RESPONSES,
    openapi_extra=SEGMENT_BODY,
)
async def segment_version(
    request: Request, model: ModelName, version: Version, options: Options
) -> Response:
    """Send the image as multipart part `file`, or as the raw body with its Content-Type.

    Research use only; not a medical device.
    """
    return await _segment(request, model, version, options)


def routes() -> list[SegmentRoute]:
    """Return both addresses."""
    return [route for route in router.routes if isinstance(route, SegmentRoute)]


@dataclass(frozen=True)
class Task:
    """What is to be done with each image of a request."""

    running: Running
    scheduler: Scheduler
    identity: ModelIdentity
    answer_format: AnswerFormat
    options: SegmentOptions
    gains: Gains | None


async def prepare(
    request: Request, model: str, version: int | str | None, options: SegmentOptions, *, accept: str
) -> Task:
    """Check all that can be checked before the body is read.

    Raises:
        ModelNotFound, ModelNotReady, NotAcceptable, RequestInvalid: see there.
    """
    # Not parameters of the route: FastAPI takes a tenth of a request's main-thread time for them.
    running: Running = request.app.state.running
    trace: Trace = request.scope[SCOPE_KEY]
    served = await running.keeper.find(model, version, trace)
    trace.model = served.identity
    answer_format = choose_format(options.format, accept)
    trace.answer_format = answer_format
    check_fits(served.model.spec, answer_format)
    gains = choose_gains(options.skip_gain, served.model.spec)
    trace.skip_gain = spell_gains(gains or ())
    scheduler = running.engine.scheduler(served)
    return Task(running, scheduler, served.identity, answer_format, options, gains)


async def _segment(
    request: Request, model: str, version: int | str | None, options: SegmentOptions
) -> Response:
    accept = request.headers.get("accept", "")
    task = await prepare(request, model, version, options, accept=accept)
    trace: Trace = request.scope[SCOPE_KEY]
    settings = task.running.settings
    with task.scheduler.claim() as scheduler:
        scheduler.check_room()
        with arriving(trace, settings.deadline_s):
            upload = await admit(request, max_body_bytes=settings.max_body_bytes)
        try:
            with scheduler.slot():
                body = await wait_while_wanted(
                    segment_file(upload, task, trace, small_hw=small_size_hw(upload)),
                    request.scope,
                    request.receive,
                    seconds_left=settings.deadline_s - trace.elapsed_s,
                    deadline_s=settings.deadline_s,
                )
        finally:
            await upload.close()
    return Response(body, media_type=ENCODINGS[task.answer_format].media_type)


async def segment_file(
    file: Readable, task: Task, trace: Trace, *, small_hw: tuple[int, int] | None = None
) -> bytes:
    """Segment an image, or return the answer that is kept of it.

    Args:
        file: the image's bytes.
        task: what is to be done.
        trace: told of the stages.
        small_hw: height and width where ``engine/small.py`` calls it small.
    """
    engine = task.running.engine
    if not engine.cache.max_bytes:
        return await _compute(file, task, trace, small_hw)
    with trace.stage("look_up"):
        held = await engine.in_codec_thread(task.identity.name, lambda: Held.of(file.read()))
    question = Question(
        held.sha256,
        task.identity,
        task.answer_format,
        task.options.orientation,
        task.options.opacity,
        task.gains,
    )
    kept = engine.cache.get(question)
    if kept is not None:
        trace.cache, trace.tiled = "hit", kept.tiled
        return kept.body
    trace.cache = "miss"
    body = await _compute(held, task, trace, small_hw)
    engine.cache.put(question, KeptAnswer(body, trace.tiled))
    return body


async def _compute(
    file: Readable, task: Task, trace: Trace, small_hw: tuple[int, int] | None
) -> bytes:
    """Data's way: decode, queue, batch, run, encode."""
    running, scheduler, gains = task.running, task.scheduler, task.gains
    engine, spec, encoding = running.engine, scheduler.spec, ENCODINGS[task.answer_format]
    with engine.budget.lease(scheduler.key[0]) as lease:
        decode_now = partial(
            decode,
            file,
            spec,
            max_pixels=running.settings.max_pixels,
            orientation=task.options.orientation,
            lease=lease,
            keep_pixels=encoding.needs_pixels,
        )

        def encode_now(segmentation: Segmentation, pixels_hwc: NDArray[Any] | None) -> bytes:
            answer = Answer(spec, segmentation, pixels_hwc, task.options.opacity, gains)
            return encode(answer, task.answer_format)

        needs = encoding.needs_probabilities
        if small_hw is not None and scheduler.takes_small:
            return await scheduler.segment_small(
                SmallImage(small_hw, decode_now, encode_now),
                probabilities=needs,
                skip_gain=gains,
                lease=lease,
                trace=trace,
            )
        place = await scheduler.ahead.take(trace)
        try:
            with trace.stage("decode"):
                image = await engine.in_codec_thread(lease.owner, decode_now)
            segmentation = await scheduler.segment(
                image.image_chw,
                probabilities=needs,
                skip_gain=gains,
                lease=lease,
                trace=trace,
                place=place,
            )
        finally:
            place.let_go()
        pixels_hwc = image.pixels_hwc
        del image  # its float32 copy has four times the image's bytes
        with trace.stage("encode"):
            return await engine.in_codec_thread(lease.owner, encode_now, segmentation, pixels_hwc)
