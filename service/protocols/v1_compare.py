"""``POST /v1/compare``: one image, several models, how far they agree."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from contract.spec import NAME_PATTERN, ModelSpec
from imaging.decode import Orientation
from service.engine.admit import admit
from service.engine.compare import (
    COMPARISONS,
    Comparison,
    ComparisonFormat,
    Opinion,
    check_comparable,
)
from service.engine.decode import DecodedRequest, decode
from service.engine.upload import Upload
from service.protocols.openapi import SEGMENT_BODY, SEGMENT_RESPONSES
from service.protocols.segment_options import check_named_once
from service.protocols.skip_gain import choose_gains
from service.protocols.wait import arriving, wait_while_wanted
from service.repository.policy import ALIAS_PATTERN, named_version
from service.repository.repository import Asked, ServedModel
from service.running import Running
from service.trace import SCOPE_KEY, Trace

router = APIRouter(tags=["segment"])

# Each holds its labels until the answer is made.
MOST_MODELS = 4
MODELS_HEADER = "X-Longskip-Models"
_NAMED = f"{NAME_PATTERN.strip('^$')}(?:@(?:[1-9][0-9]{{0,8}}|{ALIAS_PATTERN}))?"
MODELS_PATTERN = f"^{_NAMED}(?:,{_NAMED}){{1,{MOST_MODELS - 1}}}$"

_EXAMPLE = {
    "size": [256, 320],
    "models": [
        {
            "name": name,
            "version": 1,
            "sha256": "…",
            "provider": "CPUExecutionProvider",
            "precision": "int8",
            "classes": [{"index": 1, "name": "nucleus", "area_px": area_px}],
            "ms": {"queue": 0.1, "run": 21.4},
        }
        for name, area_px in (("nuclei", 1315), ("nuclei-noskip", 1288))
    ],
    "pairs": [
        {
            "models": ["nuclei@1", "nuclei-noskip@1"],
            "differing_px": 203,
            "equal_share": 0.9975,
            "classes": [{"index": 1, "name": "nucleus", "dice": 0.922}],
        }
    ],
}
COMPARE_RESPONSES: dict[int | str, dict[str, Any]] = {
    **{status: said for status, said in SEGMENT_RESPONSES.items() if status not in (200, 406)},
    200: {
        "description": "the comparison, in the format asked for",
        "headers": {
            MODELS_HEADER: {
                "description": "name, version, hash, provider and precision of each, in order",
                "schema": {"type": "string"},
            }
        },
        "content": {
            "application/json": {"example": _EXAMPLE},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}


class CompareOptions(BaseModel):
    """What a request may choose, all in the query; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: str = Field(
        pattern=MODELS_PATTERN,
        description=(
            f"two to {MOST_MODELS} models with commas between them, each with a version or an "
            "alias where wanted: `nuclei,nuclei@3,nuclei-noskip@canary`"
        ),
        examples=["nuclei,nuclei-noskip"],
    )
    format: ComparisonFormat = Field(
        default="json",
        description=(
            "`json`: areas and times by model; Dice by class and the share of equal pixels by "
            "pair. `overlay`: the image, in the classes' colours where all agree; of two models, "
            "orange where only the first and blue where only the second sees any class; purple at "
            "every other difference."
        ),
    )
    orientation: Orientation = Field(
        default="applied", description="as for `segment`; `stored` ignores the EXIF orientation"
    )
    opacity: float = Field(
        default=0.4, ge=0.0, le=1.0, description="of the colours, for `format=overlay` only"
    )


@router.post(
    "/v1/compare",
    summary="Compare several models on an image",
    response_class=Response,
    responses=COMPARE_RESPONSES,
    openapi_extra=SEGMENT_BODY,
)
async def compare(request: Request, options: Annotated[CompareOptions, Query()]) -> Response:
    """Send the image as multipart part `file`, or as the raw body with its Content-Type.

    The models run one after the other; all must have the same classes. Research use only; not a
    medical device.
    """
    running: Running = request.app.state.running
    trace: Trace = request.scope[SCOPE_KEY]
    check_named_once(request.query_params, CompareOptions)
    named = named_models(options.models)
    found = [running.repository.find(*one) for one in named]
    check_comparable([one.spec for one in found], options.format)
    trace.answer_format = options.format
    for one in found:
        if isinstance(one, ServedModel):
            running.engine.scheduler(one).check_room()
    deadline_s = running.settings.deadline_s
    with arriving(trace, deadline_s):
        upload = await admit(request, max_body_bytes=running.settings.max_body_bytes)
    try:
        body, opinions = await wait_while_wanted(
            _answer(upload, named, options, running, trace),
            request.scope,
            request.receive,
            seconds_left=deadline_s - trace.elapsed_s,
            deadline_s=deadline_s,
        )
    finally:
        await upload.close()
    media_type = COMPARISONS[options.format].media_type
    return Response(body, media_type=media_type, headers={MODELS_HEADER: _spell(opinions)})


def named_models(spelled: str) -> list[tuple[str, Asked]]:
    """Return names and versions of ``nuclei,nuclei@3,nuclei@canary``."""
    parted = [one.partition("@") for one in spelled.split(",")]
    return [(name, named_version(version) if version else None) for name, _, version in parted]


async def _answer(
    upload: Upload,
    named: Sequence[tuple[str, Asked]],
    options: CompareOptions,
    running: Running,
    trace: Trace,
) -> tuple[bytes, list[Opinion]]:
    engine, encoding = running.engine, COMPARISONS[options.format]
    with engine.budget.lease() as lease:
        images: dict[int, DecodedRequest] = {}  # by the channels that a model takes
        specs: list[ModelSpec] = []
        opinions: list[Opinion] = []
        # One after the other: together they would share the same cores, and hold more memory.
        for name, version in named:
            served = await running.keeper.find(name, version, trace, drawn=False)
            with engine.scheduler(served).claim() as scheduler, scheduler.slot():
                spec = scheduler.spec
                specs.append(spec)
                check_comparable(specs, options.format)  # its file may be another one by now
                if spec.channels not in images:
                    with trace.stage("decode"):
                        images[spec.channels] = await engine.in_codec_thread(
                            lease.owner,
                            decode,
                            upload,
                            spec,
                            max_pixels=running.settings.max_pixels,
                            orientation=options.orientation,
                            lease=lease,
                            keep_pixels=encoding.needs_pixels,
                        )
                (own,) = trace.parts(1)
                segmentation = await scheduler.segment(
                    images[spec.channels].image_chw,
                    probabilities=False,
                    skip_gain=choose_gains(None, spec),
                    lease=lease,
                    trace=own,
                )
            opinions.append(Opinion(served.identity, segmentation.labels, own.stages_s))
            # Its wait and its run: the decoding and the answer are of all models together.
            own.model, own.answer_format = served.identity, options.format
            running.metrics.counts.observe(own, HTTPStatus.OK)
            trace.join([own])
        (pixels_hwc, *_) = (image.pixels_hwc for image in images.values())
        comparison = Comparison(specs[0], opinions, pixels_hwc, options.opacity)
        with trace.stage("encode"):
            return await engine.in_codec_thread(lease.owner, encoding.encode, comparison), opinions


def _spell(opinions: Sequence[Opinion]) -> str:
    """Return who answered, as a list of RFC 8941."""
    return ", ".join(
        f"{one.name};sha256={one.identity.sha256};provider={one.identity.provider};"
        f"precision={one.identity.precision}"
        for one in opinions
    )
