"""``POST /v1/models/{model}/segment``: an image comes in, its labels go out."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from contract.errors import RequestInvalid
from imaging.decode import Orientation
from service.engine.admit import admit
from service.engine.cache import Held, KeptAnswer, Question
from service.engine.decode import decode
from service.engine.encode import ENCODINGS, Answer, AnswerFormat, check_fits, encode
from service.engine.scheduler import Scheduler
from service.engine.unpack import Readable
from service.protocols.negotiate import choose_format
from service.protocols.openapi import SEGMENT_BODY, SEGMENT_RESPONSES
from service.protocols.skip_gain import NUMBER, Gains, choose_gains, spell_gains
from service.protocols.version_path import Version
from service.protocols.wait import arriving, wait_while_wanted
from service.running import Running
from service.trace import SCOPE_KEY, ModelIdentity, Trace

router = APIRouter(tags=["segment"])

ModelName = Annotated[str, Path(description="a name from `GET /v1/models`", examples=["nuclei"])]


class SegmentOptions(BaseModel):
    """What a request may choose, all in the query; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: AnswerFormat | SkipJsonSchema[None] = Field(
        default=None,
        description=(
            "`png`: 8-bit indexed, pixel value = class index (default). `overlay`: the image with "
            "the classes' colours over it. `json`: area, boxes and COCO RLE per class. `geojson`: "
            "polygons in pixels. `npz`: labels and probabilities. `bits`: a bit per pixel and "
            "class, an npz of `planes`, `width` and `classes`. `rle`: run lengths row by row, an "
            "npz of `values`, `lengths`, `shape` and `classes`. Without it the Accept header "
            "decides."
        ),
    )
    orientation: Orientation = Field(
        default="applied",
        description=(
            "`applied`: the mask has the size that a viewer shows, EXIF orientation applied. "
            "`stored`: the EXIF orientation is ignored."
        ),
    )
    opacity: float = Field(
        default=0.4, ge=0.0, le=1.0, description="of the colours, for `format=overlay` only"
    )
    skip_gain: str | SkipJsonSchema[None] = Field(
        default=None,
        max_length=200,
        examples=["1,1,0,1"],
        json_schema_extra={"pattern": f"^{NUMBER.pattern}(,{NUMBER.pattern})*$"},
        description=(
            "For models with `skip_levels` (see `GET /v1/models/{model}`): a factor from 0 to 2 on "
            "each long skip, finest level first. 0 takes a skip away, 1 leaves it as it was "
            "trained. The answer tells it in `X-Longskip-Skip-Gain`, and `format=json` as "
            "`skip_gain`."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, given: dict[str, object]) -> dict[str, object]:
        unknown = sorted(given.keys() - cls.model_fields.keys())
        if unknown:
            raise ValueError(
                f"there is no option {', '.join(unknown)}; there are: {', '.join(cls.model_fields)}"
            )
        return given


Options = Annotated[SegmentOptions, Query()]


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
    _check_named_once(request)
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
        async with arriving(trace, settings.deadline_s):
            upload = await admit(request, max_body_bytes=settings.max_body_bytes)
        try:
            with scheduler.slot():
                body = await wait_while_wanted(
                    segment_file(upload.file, task, trace),
                    request.receive,
                    seconds_left=settings.deadline_s - trace.elapsed_s,
                    deadline_s=settings.deadline_s,
                )
        finally:
            await upload.close()
    return Response(body, media_type=ENCODINGS[task.answer_format].media_type)


def _check_named_once(request: Request) -> None:
    """Refuse a query that names an option twice; FastAPI would take the last without a word."""
    names = [name for name, _ in request.query_params.multi_items()]
    repeated = [name for name in SegmentOptions.model_fields if names.count(name) > 1]
    if repeated:
        raise RequestInvalid(
            f"the query names {', '.join(repeated)} more than once; give each option once"
        )


async def segment_file(file: Readable, task: Task, trace: Trace) -> bytes:
    """Segment an image, or return the answer that is kept of it."""
    engine = task.running.engine
    if not engine.cache.max_bytes:
        return await _compute(file, task, trace)
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
    body = await _compute(held, task, trace)
    engine.cache.put(question, KeptAnswer(body, trace.tiled))
    return body


async def _compute(file: Readable, task: Task, trace: Trace) -> bytes:
    """Data's way: decode, queue, batch, run, encode."""
    running, options, scheduler = task.running, task.options, task.scheduler
    engine, spec, encoding = running.engine, scheduler.spec, ENCODINGS[task.answer_format]
    with engine.budget.lease(scheduler.key[0]) as lease:
        with trace.stage("decode"):
            image = await engine.in_codec_thread(
                lease.owner,
                decode,
                file,
                spec,
                max_pixels=running.settings.max_pixels,
                orientation=options.orientation,
                lease=lease,
                keep_pixels=encoding.needs_pixels,
            )
        segmentation = await scheduler.segment(
            image.image_chw,
            probabilities=encoding.needs_probabilities,
            skip_gain=task.gains,
            lease=lease,
            trace=trace,
        )
        answer = Answer(spec, segmentation, image.pixels_hwc, options.opacity, task.gains)
        del image  # its float32 copy has four times the image's bytes
        with trace.stage("encode"):
            return await engine.in_codec_thread(lease.owner, encode, answer, task.answer_format)
