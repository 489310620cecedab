"""Step 5 of data's way: a batch goes through the model, in the model's own thread."""

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.errors import LongskipError, ModelBroken, OutOfMemory
from contract.halt import Halt
from contract.model import Intensities, Segmentation
from contract.spec import ModelSpec, Precision
from service.engine.queue import Job
from service.errors import ClientGone

OUT_OF_MEMORY = (OutOfMemory, MemoryError)

_log = logging.getLogger("longskip.engine")


class SegmentationModel(Protocol):
    """What the service needs of a model; ``contract.model.Model`` is one."""

    @property
    def spec(self) -> ModelSpec:
        """What the file promises."""

    @property
    def sha256(self) -> str:
        """Of the file's bytes, in hex."""

    @property
    def provider(self) -> str:
        """What it runs on."""

    @property
    def precision(self) -> Precision:
        """Number format of the weights."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all that it answers; ``disagreement`` is not in every file."""

    def run(
        self,
        image_nchw: NDArray[np.float32],
        *,
        statistics: NDArray[np.float32] | None = None,
        skip_gain: NDArray[np.float32] | None = None,
        outputs: Sequence[str] = ("labels",),
        halt: Halt | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run the graph once."""

    def segment(
        self,
        image_chw: Intensities,
        *,
        probabilities: bool = False,
        skip_gain: Sequence[float] | None = None,
        in_tiles: bool = False,
        halt: Halt | None = None,
    ) -> Segmentation:
        """Segment one image, in tiles where it is large or where that is asked for."""

    def hand_memory_back(self) -> None:
        """Keep no memory of earlier runs."""


def answer_batch(model: SegmentationModel, batch: Sequence[Job], halt: Halt) -> list[Any]:
    """Run images of equal size and return, per job, what its request waits for or an error.

    Args:
        model: runs them.
        batch: jobs whose images have equal sizes.
        halt: asked when nobody waits for any of them any more.
    """
    outcomes = run_batch(model, batch, halt)
    return [_written(job, outcome) for job, outcome in zip(batch, outcomes, strict=True)]


def _written(job: Job, outcome: Segmentation | Exception) -> Any:
    if isinstance(outcome, Exception):
        return outcome
    try:
        return job.image.write(outcome)
    except MemoryError as error:
        return _out_of_memory(error)
    except Exception as error:
        return _told(error)


def run_batch(
    model: SegmentationModel, batch: Sequence[Job], halt: Halt
) -> list[Segmentation | Exception]:
    """Run images of equal size through the model; one entry per job, in order.

    A batch that finds no memory is run again in halves, and a single image in tiles where the
    model takes any. A batch that fails otherwise is run again image by image, so that one image
    cannot spoil another's answer.
    """
    if len(batch) == 1:
        return [_run_alone(model, batch[0], halt)]
    try:
        return list(_run_together(model, batch, halt))
    except OUT_OF_MEMORY:
        images = -(-len(batch) // 2)
    except Exception:
        images = 1
    # Not where the error was caught: until it is dropped, it holds the failed run's arrays.
    parts = [batch[start : start + images] for start in range(0, len(batch), images)]
    return [outcome for part in parts for outcome in run_batch(model, part, halt)]


def _run_alone(model: SegmentationModel, job: Job, halt: Halt) -> Segmentation | Exception:
    try:
        return _segment(model, job, halt, in_tiles=False)
    except OUT_OF_MEMORY as error:
        if not _has_smaller_tiles(model.spec, job):
            return _out_of_memory(error)
    except Exception as error:
        return _told(error)
    _log.warning("%s: no memory for an image whole; it is answered in tiles", model.spec.name)
    try:
        return _segment(model, job, halt, in_tiles=True)
    except OUT_OF_MEMORY as error:
        return _out_of_memory(error)
    except Exception as error:
        return _told(error)


def _has_smaller_tiles(spec: ModelSpec, job: Job) -> bool:
    """Whether tiles would need less memory than the run that failed."""
    size_hw = job.image.size_hw
    whole = job.pixels <= spec.whole_image_max_pixels  # otherwise it was tiled already
    return whole and spec.tiles is not None and any(np.greater(size_hw, spec.tiles.patch))


def _told(error: Exception) -> Exception:
    """Return an error without the frames that it came through, unless the log tells of them.

    They hold the run's arrays and, with the batch, the error itself: a halted 2048 x 2048 kept
    61 MB until the collector came by.
    """
    if isinstance(error, LongskipError) and not isinstance(error, ModelBroken):
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    return error


def _out_of_memory(error: Exception) -> Exception:
    if isinstance(error, OutOfMemory):
        return _told(error)
    return OutOfMemory("there is no memory for the image now; send it again in a moment")


def _segment(model: SegmentationModel, job: Job, halt: Halt, *, in_tiles: bool) -> Segmentation:
    if job.answer.done():  # of a batch that failed, where others still wait
        raise ClientGone("the request ended before its image was run")
    return model.segment(
        job.image_chw,
        probabilities=job.probabilities,
        skip_gain=job.skip_gain,
        in_tiles=in_tiles,
        halt=halt,
    )


def _run_together(model: SegmentationModel, batch: Sequence[Job], halt: Halt) -> list[Segmentation]:
    wants_probabilities = batch[0].probabilities
    outputs = model.outputs if wants_probabilities else ("labels",)
    gains = [job.skip_gain for job in batch]  # of one model: all have them or none
    answers = model.run(
        np.stack([job.image_chw for job in batch], dtype=np.float32),
        skip_gain=None if gains[0] is None else np.array(gains, np.float32),
        outputs=outputs,
        halt=halt,
    )
    return [
        Segmentation(
            labels=answers["labels"][n],
            probabilities=answers["probabilities"][n] if wants_probabilities else None,
            tiled=False,
            disagreement=answers["disagreement"][n] if "disagreement" in answers else None,
        )
        for n in range(len(batch))
    ]
