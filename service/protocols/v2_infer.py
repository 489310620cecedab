"""``POST /v2/models/{model}/infer``: the Open Inference Protocol's tensors in and out.

The image goes in as the model file takes it, raw intensities float32 ``[N, C, H, W]``. Its N images
are queued like any other's, so they share runs with those of ``/v1``, are cut into tiles past the
whole-image limit, and have the same bits.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from contract.errors import ChannelMismatch, ImageTooLarge, RequestInvalid
from contract.model import Segmentation
from contract.skip_gain import checked_rows
from service.engine.admit import admit_bytes
from service.engine.budget import PixelLease
from service.engine.scheduler import Scheduler
from service.engine.upload import Upload
from service.protocols.compression import choose_encoding, compress, expand
from service.protocols.skip_gain import Gains, choose_gains
from service.protocols.v2_openapi import INFER_BODY, INFER_RESPONSES
from service.protocols.v2_tensors import AskedOutput, InferRequest, read_request, write_answer
from service.protocols.version_path import VersionIfNamed
from service.protocols.wait import arriving, wait_while_wanted
from service.repository.repository import ServedModel
from service.running import Running
from service.trace import SCOPE_KEY, Trace

router = APIRouter(tags=["infer"])

JSON_BYTES_HEADER = "Inference-Header-Content-Length"
# The budget counts pixels of up to four channels; a tensor's values are float32.
BYTES_PER_BUDGET_PIXEL = 16


@router.post(
    "/v2/models/{model}/infer",
    summary="Run a model on tensors",
    response_class=Response,
    responses=INFER_RESPONSES,
    openapi_extra=INFER_BODY,
)
@router.post(
    "/v2/models/{model}/versions/{version:version}/infer",
    summary="Run a version of a model on tensors",
    response_class=Response,
    responses=INFER_RESPONSES,
    openapi_extra=INFER_BODY,
)
async def infer(request: Request, model: str, version: VersionIfNamed) -> Response:
    """Send `image` as raw intensities, FP32 `[N, C, H, W]`, as JSON or as bytes behind the JSON.

    Research use only; not a medical device.
    """
    running: Running = request.app.state.running
    trace: Trace = request.scope[SCOPE_KEY]
    served = await running.keeper.find(model, version, trace)
    trace.model = served.identity
    trace.answer_format = "tensors"
    json_bytes = _json_bytes(request)
    with running.engine.scheduler(served).claim() as scheduler:
        scheduler.check_room()
        with arriving(trace, running.settings.deadline_s):
            upload = await admit_bytes(request, max_body_bytes=running.settings.max_body_bytes)
        try:
            with scheduler.slot(), running.engine.budget.lease(scheduler.key[0]) as lease:
                with trace.stage("decode"):
                    asked = await running.engine.in_codec_thread(
                        lease.owner,
                        _read,
                        upload,
                        json_bytes,
                        request.headers.get("content-encoding", ""),
                        running.settings.max_body_bytes,
                        lease,
                    )
                deadline_s = min(running.settings.deadline_s, asked.timeout_s or np.inf)
                body, length = await wait_while_wanted(
                    _answer(asked, served, scheduler, running, lease, trace),
                    request.scope,
                    request.receive,
                    seconds_left=deadline_s - trace.elapsed_s,
                    deadline_s=deadline_s,
                )
                encoding = choose_encoding(request.headers.get("accept-encoding", ""))
                if encoding:
                    with trace.stage("encode"):
                        body = await running.engine.in_codec_thread(
                            lease.owner, compress, body, encoding
                        )
        finally:
            await upload.close()
    return Response(
        body,
        headers=({JSON_BYTES_HEADER: str(length)} if length is not None else {})
        | ({"Content-Encoding": encoding, "Vary": "Accept-Encoding"} if encoding else {}),
        media_type="application/json" if length is None else "application/octet-stream",
    )


def _json_bytes(request: Request) -> int | None:
    written = request.headers.get(JSON_BYTES_HEADER)
    if written is None:
        return None
    if not (written.isascii() and written.isdecimal() and len(written) < 16):
        raise RequestInvalid(f"{JSON_BYTES_HEADER} must be a whole number of bytes")
    return int(written)


def _read(
    upload: Upload,
    json_bytes: int | None,
    encoding: str,
    max_bytes: int,
    lease: PixelLease,
) -> InferRequest:
    def take(n_bytes: int) -> None:
        lease.take(-(-n_bytes // BYTES_PER_BUDGET_PIXEL))

    with lease:
        take(upload.size)
        body = expand(upload.read(), encoding, max_bytes=max_bytes, take=take)
        return read_request(body, json_bytes)


async def _answer(
    asked: InferRequest,
    served: ServedModel,
    scheduler: Scheduler,
    running: Running,
    lease: PixelLease,
    trace: Trace,
) -> tuple[bytes, int | None]:
    images, gains = checked_inputs(asked, served, running)
    outputs = checked_outputs(asked, served)
    trace.images = len(images)
    traces = trace.parts(len(images))
    answers = await asyncio.gather(
        *(
            scheduler.segment(
                image,
                probabilities=any(one.name != "labels" for one in outputs),
                skip_gain=gain,
                lease=lease,
                trace=own,
            )
            for image, gain, own in zip(images, gains, traces, strict=True)
        )
    )
    trace.join(traces)
    with trace.stage("encode"):
        return await running.engine.in_codec_thread(
            lease.owner, _write, asked, served, outputs, answers
        )


def checked_inputs(
    asked: InferRequest, served: ServedModel, running: Running
) -> tuple[NDArray[np.float32], list[Gains | None]]:
    """Return the images ``[N, C, H, W]``, and the factors on the long skips of each.

    Raises:
        RequestInvalid, ChannelMismatch: they are not what the model takes.
        ImageTooLarge: they have too many pixels.
    """
    spec = served.model.spec
    dial = len(spec.skip_gain_strides) > 0
    known = ["image", *(["skip_gain"] if dial else [])]
    if "image" not in asked.inputs or not set(asked.inputs) <= set(known):
        raise RequestInvalid(
            f"{len(asked.inputs)} inputs came; {spec.name} takes image"
            + (" and, if wanted, skip_gain" if dial else "")
        )
    images = asked.inputs["image"]
    if images.dtype != np.float32:
        raise RequestInvalid("image is UINT8; give raw intensities as FP32, not scaled")
    if images.ndim != 4 or images.size == 0:
        raise RequestInvalid(
            f"image has the shape {list(images.shape)}; give [N, {spec.channels}, H, W], each >= 1"
        )
    n_images, channels, height, width = images.shape
    if channels != spec.channels:
        raise ChannelMismatch(f"image has {channels} channels; {spec.name} takes {spec.channels}")
    if n_images > running.settings.max_batch:
        raise RequestInvalid(
            f"image holds a batch of {n_images}; {running.settings.max_batch} is the limit of "
            "this service (max_batch_size of the model's config)"
        )
    if height * width > running.settings.max_pixels:
        raise ImageTooLarge(
            f"image is {height} x {width} = {height * width:,} pixels; the limit is "
            f"{running.settings.max_pixels:,}"
        )
    if "skip_gain" not in asked.inputs:
        return images, [choose_gains(None, spec)] * n_images
    rows = checked_rows(spec, asked.inputs["skip_gain"], batch=n_images)
    repeated = np.broadcast_to(rows, (n_images, rows.shape[1]))
    return images, [tuple(row) for row in repeated.tolist()]


def checked_outputs(asked: InferRequest, served: ServedModel) -> tuple[AskedOutput, ...]:
    """Return the outputs to answer; all where none were named.

    Raises:
        RequestInvalid: one is none of the model's.
    """
    known = served.model.outputs
    if not asked.outputs:
        return tuple(AskedOutput(name, asked.all_binary) for name in known)
    if not {one.name for one in asked.outputs} <= set(known):
        raise RequestInvalid(
            f"an output is asked for that {served.name} does not have; it has {', '.join(known)}"
        )
    return asked.outputs


def _write(
    asked: InferRequest,
    served: ServedModel,
    outputs: Sequence[AskedOutput],
    answers: Sequence[Segmentation],
) -> tuple[bytes, int | None]:
    head: dict[str, Any] = {"id": asked.request_id} if asked.request_id else {}
    head |= {"model_name": served.name, "model_version": str(served.version)}
    arrays = [np.stack([getattr(answer, one.name) for answer in answers]) for one in outputs]
    return write_answer(head, list(zip(outputs, arrays, strict=True)))
