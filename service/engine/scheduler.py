"""One model's queue and its runs: what waits runs as soon as cores are free for it."""

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic, thread_time
from typing import Any

from contract.model import Intensities, Segmentation
from contract.session import CPU_PROVIDER
from contract.spec import ModelSpec
from service.engine.ahead import Ahead, Place
from service.engine.batch import take_batch
from service.engine.budget import PixelLease
from service.engine.queue import Batch, Decoded, Job, JobImage, JobQueue
from service.engine.room import Room
from service.engine.run import SegmentationModel, answer_batch
from service.engine.small import SmallImage
from service.engine.threads import Threads
from service.engine.turns import raisable
from service.errors import Overloaded
from service.trace import ModelKey, Trace

ObserveBatch = Callable[[int, float], None]
"""Called with the number of images and the seconds of each batch that was run."""
# Runs past this size keep memory that is worth handing back when none came for a while, smaller
# ones when nothing ran for longer; at once it would cost each run an eighth of its time.
LARGE_PIXELS = 256 * 256
KEPT_S = 5.0
KEPT_IDLE_S = 30.0
# A few times of what the event loop takes for an image's request.
QUICK_S = 2e-3


@dataclass(frozen=True)
class Lanes:
    """Side by side runs of one model, one core each.

    One run spreads over the cores by itself, but not evenly: a thread that has to decode an image
    in between keeps the others waiting. When enough images wait to give each core one of its own,
    no core waits for another. The answers have the same bits.

    Attributes:
        model: the same file, opened with one thread per run.
        count: how many runs there may be side by side, one per core.
    """

    model: SegmentationModel
    count: int


class Scheduler:
    """Runs one model's images in threads of its own.

    Batches are whatever waits when a run may begin: an idle service adds no delay.

    Attributes:
        key: name and version of the model.
        room: where to wait for a slot.
        ahead: where to wait until an image may be decoded.
    """

    def __init__(
        self,
        model: SegmentationModel,
        *,
        key: ModelKey,
        max_batch: int,
        max_batch_pixels: int,
        queue_size: int,
        decoded_ahead: int,
        lanes: Lanes | None = None,
        observe_batch: ObserveBatch = lambda _images, _seconds: None,
    ) -> None:
        self.key = key
        self.room = Room()
        self.ahead = Ahead(decoded_ahead)
        self._model = model
        self._max_batch = max_batch
        self._max_batch_pixels = max_batch_pixels
        self._queue_size = queue_size
        self._lanes = lanes
        # All lanes together need no more memory than one image alone may.
        self._lane_pixels = model.spec.whole_image_max_pixels // (lanes.count if lanes else 1)
        self._observe_batch = observe_batch
        self._under_way = 0
        self._claims = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._queue = JobQueue()
        count = lanes.count if lanes is not None else 1
        self._threads = Threads(count, name=f"run-{model.spec.name}")
        self._whole_run: Batch | None = None
        self._lane_runs: set[Batch] = set()
        self._hand_back_due: asyncio.TimerHandle | None = None
        self._ended_s = 0.0
        self._beginning = False
        # Of the last run; before it, none is taken for quick.
        self._pixel_s = math.inf

    @property
    def spec(self) -> ModelSpec:
        """What the model's file promises."""
        return self._model.spec

    @property
    def takes_small(self) -> bool:
        """Whether a run may decode and encode small images; a GPU must not wait for that."""
        return self._model.provider == CPU_PROVIDER

    @property
    def waiting(self) -> int:
        """Images that wait for their run, decoded or not."""
        return len(self._queue) + self.ahead.waiting

    @property
    def under_way(self) -> int:
        """Requests that hold a slot."""
        return self._under_way

    @property
    def oldest_wait_s(self) -> float:
        """Seconds that the image has waited whose turn comes next; 0 where none waits.

        Unlike the stage ``queue`` of answered requests it also tells of a queue that stands still.
        """
        try:
            return monotonic() - self._queue.oldest.queued_s
        except IndexError:
            return self.ahead.oldest_wait_s

    async def close(self) -> None:
        """Wait for no image: who still waits for one is cancelled."""
        self._queue.drop_all()
        self._hand_back_never()
        for batch in (*self._lane_runs, *filter(None, [self._whole_run])):
            for job in batch.jobs:
                job.answer.cancel()
        await self._threads.close()

    async def wait_until_idle(self) -> None:
        """Wait until no request claims the model or holds a slot."""
        await self._idle.wait()

    @property
    def claimed(self) -> bool:
        """Whether a request counts on the model."""
        return self._claims > 0

    @contextmanager
    def claim(self) -> Iterator["Scheduler"]:
        """Count on the model from the moment it was found; a slot is held from the body on.

        Without it, a model that is replaced meanwhile could be let go.
        """
        self._claims += 1
        self._idle.clear()
        try:
            yield self
        finally:
            self._claims -= 1
            if self._claims == 0:
                self._idle.set()

    def check_room(self) -> None:
        """Tell, before a body is read, whether a slot would be free.

        Raises:
            Overloaded: no slot is free.
        """
        if self._under_way >= self._queue_size:
            raise Overloaded(
                f"{self._under_way} requests of {self._model.spec.name} are under way and "
                f"{self._queue_size} is the limit. Send the image again in a moment.",
                reason="queue",
            )

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the model's places, from the body's arrival to the answer.

        Raises:
            Overloaded: no slot is free.
        """
        self.check_room()
        self._under_way += 1
        try:
            with self.claim():
                yield
        finally:
            self._under_way -= 1
            self.room.was_given_back()

    async def segment(
        self,
        image_chw: Intensities,
        *,
        probabilities: bool,
        skip_gain: tuple[float, ...] | None = None,
        lease: PixelLease,
        trace: Trace,
        place: Place | None = None,
    ) -> Segmentation:
        """Queue an image and wait for its answer. Cancelling the wait drops the image.

        ``place`` is the one that it was decoded in, let go when its run begins.
        """
        segmentation: Segmentation
        job, segmentation = await self._wait_for(
            Decoded(image_chw), probabilities, skip_gain, lease, place
        )
        trace.add("queue", job.queued_s, job.started_s)
        trace.add("run", job.started_s, job.finished_s)
        trace.tiled |= segmentation.tiled
        return segmentation

    async def segment_small(
        self,
        image: SmallImage,
        *,
        probabilities: bool,
        skip_gain: tuple[float, ...] | None = None,
        lease: PixelLease,
        trace: Trace,
    ) -> bytes:
        """Queue a small image that the run itself decodes, and wait for its answer's body."""
        body: bytes
        job, body = await self._wait_for(image, probabilities, skip_gain, lease)
        decoded_s, encoding_s = job.started_s + image.decode_s, job.finished_s - image.encode_s
        trace.add("queue", job.queued_s, job.started_s)
        trace.add("decode", job.started_s, decoded_s)
        trace.add("run", decoded_s, encoding_s)
        trace.add("encode", encoding_s, job.finished_s)
        trace.tiled |= image.tiled
        return body

    async def _wait_for(
        self,
        image: JobImage,
        probabilities: bool,
        skip_gain: tuple[float, ...] | None,
        lease: PixelLease,
        place: Place | None = None,
    ) -> tuple[Job, Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        job = Job(image, probabilities, lease, answer, skip_gain, place)
        self._queue.put(job)
        self._begin_soon()
        try:
            return job, await answer
        except asyncio.CancelledError:
            self._queue.drop(job)
            raise

    def _begin_soon(self) -> None:
        """Begin runs when the event loop has done what is due: others may come until then."""
        if not self._beginning:
            self._beginning = True
            asyncio.get_running_loop().call_soon(self._begin_runs)

    def _begin_runs(self) -> None:
        """Begin all runs that may begin now; called when jobs came and when a run ended."""
        self._beginning = False
        while self._whole_run is None and len(self._queue):
            free_lanes = self._free_lanes()
            if free_lanes:
                # The lanes share what waits, so that none takes a batch and leaves others idle.
                share = -(-len(self._queue) // free_lanes)
                batch = self._take(min(self._max_batch, share), self._lane_pixels)
            elif not self._lane_runs:
                batch = self._take(self._max_batch, self._max_batch_pixels)
            else:
                return
            if batch:
                self._begin(batch, in_lane=free_lanes > 0)

    def _free_lanes(self) -> int:
        """How many lanes may take a batch: none where the cores could not all be kept busy.

        A run that nobody wants any more ends soon, so it keeps no core busy. Nor is there a lane
        for an image that is too large for one. Runs that are quick go one by one: the event loop
        cannot feed two threads with them, which would only wait for Python's lock by turns.
        """
        lanes, running = self._lanes, len(self._lane_runs)
        if lanes is None:
            return 0
        pixels = self._queue.oldest.pixels
        if pixels > self._lane_pixels:
            return 0
        if pixels * self._pixel_s < QUICK_S:
            return 0 if running else 1
        wanted = sum(not batch.halt.asked for batch in self._lane_runs)
        if wanted + len(self._queue) < lanes.count:
            return 0
        return lanes.count - running

    def _take(self, max_images: int, max_pixels: int) -> list[Job]:
        max_pixels = min(max_pixels, self._max_batch_pixels)
        return take_batch(self._queue.waiting, max_images=max_images, max_pixels=max_pixels)

    def _begin(self, jobs: list[Job], *, in_lane: bool) -> None:
        model = self._lanes.model if in_lane and self._lanes is not None else self._model
        batch = Batch(jobs)
        for job in jobs:
            job.batch = batch
            if job.place is not None:
                job.place.let_go()
        if in_lane:
            self._lane_runs.add(batch)
        else:
            self._whole_run = batch
        ended = partial(self._ended, batch, monotonic())
        try:
            self._threads.begin(partial(_answer_timed, model, batch), ended)
        except RuntimeError as error:  # no thread can be started, or the scheduler is closed
            asyncio.get_running_loop().call_soon(ended, None, error)

    def _ended(
        self,
        batch: Batch,
        started_s: float,
        answered: tuple[list[Any], float] | None,
        error: BaseException | None,
    ) -> None:
        outcomes, work_s = answered if answered is not None else (None, math.inf)
        self._lane_runs.discard(batch)
        if batch is self._whole_run:
            self._whole_run = None
        self._ended_s = finished_s = monotonic()
        # A run that was ended, or that failed, may have been over at once.
        if outcomes is None or not any(isinstance(outcome, Exception) for outcome in outcomes):
            self._pixel_s = work_s / sum(job.pixels for job in batch.jobs)
        if any(job.pixels > LARGE_PIXELS for job in batch.jobs):
            self._hand_back_in(KEPT_S, at_rest=False)
        elif self._hand_back_due is None:
            self._hand_back_in(KEPT_IDLE_S, at_rest=True)
        self._observe_batch(len(batch.jobs), finished_s - started_s)
        for job in batch.jobs:
            job.started_s, job.finished_s = started_s, finished_s
            job.lease.let_go()
            # They hold each other, and with them their images, until the collector comes by.
            job.batch = None
        try:
            _hand_out(batch.jobs, outcomes, error)
        finally:
            self._begin_runs()

    def _hand_back_in(self, seconds: float, *, at_rest: bool) -> None:
        self._hand_back_never()
        loop = asyncio.get_running_loop()
        self._hand_back_due = loop.call_later(seconds, self._hand_back, at_rest)

    def _hand_back_never(self) -> None:
        if self._hand_back_due is not None:
            self._hand_back_due.cancel()
            self._hand_back_due = None

    def _hand_back(self, at_rest: bool) -> None:
        self._hand_back_due = None
        rested_s = monotonic() - self._ended_s
        if at_rest and rested_s < KEPT_IDLE_S:
            self._hand_back_in(KEPT_IDLE_S - rested_s, at_rest=True)
            return
        with suppress(RuntimeError):  # no thread can be started
            self._threads.begin(self._model.hand_memory_back, _regardless)


def _regardless(_returned: object, _error: BaseException | None) -> None:
    """Take note of nothing."""


def _answer_timed(model: SegmentationModel, batch: Batch) -> tuple[list[Any], float]:
    """Return the outcomes and what they took of this thread's time, in seconds."""
    began_s = thread_time()
    return answer_batch(model, batch.jobs, batch.halt), thread_time() - began_s


def _hand_out(jobs: Sequence[Job], outcomes: list[Any] | None, error: BaseException | None) -> None:
    """Give every job of a run its answer, whatever became of the run."""
    if outcomes is None:
        outcomes = [raisable(error or RuntimeError("a run gave no answers"))] * len(jobs)
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.answer.done():
            continue
        if isinstance(outcome, Exception):
            job.answer.set_exception(raisable(outcome))
        else:
            job.answer.set_result(outcome)
