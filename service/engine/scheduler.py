"""One model's queue and its runs: what waits runs as soon as cores are free for it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from contract.model import Segmentation
from service.engine.batch import take_batch
from service.engine.budget import PixelLease
from service.engine.queue import Job, JobQueue
from service.engine.run import SegmentationModel, run_batch
from service.errors import Overloaded
from service.trace import Trace

ObserveBatch = Callable[[int], None]
"""Called with the number of images of each batch."""


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
    """

    def __init__(
        self,
        model: SegmentationModel,
        *,
        max_batch: int,
        max_batch_pixels: int,
        queue_size: int,
        lanes: Lanes | None = None,
        observe_batch: ObserveBatch = lambda _: None,
    ) -> None:
        self._model = model
        self._max_batch = max_batch
        self._max_batch_pixels = max_batch_pixels
        self._queue_size = queue_size
        self._lanes = lanes
        self._observe_batch = observe_batch
        self._under_way = 0
        self._queue = JobQueue()
        self._threads = ThreadPoolExecutor(
            lanes.count if lanes is not None else 1, thread_name_prefix=f"run-{model.spec.name}"
        )
        self._whole_run: asyncio.Task[None] | None = None
        self._lane_runs: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Images that wait for their run."""
        return len(self._queue)

    async def close(self) -> None:
        """Wait for no run; what still waits is cancelled."""
        self._queue.drop_all()
        runs = [*self._lane_runs, *([self._whole_run] if self._whole_run is not None else [])]
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)

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
            yield
        finally:
            self._under_way -= 1

    async def segment(
        self,
        image_chw: NDArray[np.float32],
        *,
        probabilities: bool,
        lease: PixelLease,
        trace: Trace,
    ) -> Segmentation:
        """Queue an image and wait for its answer. Cancelling the wait drops the image."""
        answer: asyncio.Future[Segmentation] = asyncio.get_running_loop().create_future()
        job = Job(image_chw=image_chw, probabilities=probabilities, lease=lease, answer=answer)
        self._queue.put(job)
        self._begin_runs()
        segmentation = await answer
        trace.add("queue", job.started_s - job.queued_s)
        trace.add("run", job.finished_s - job.started_s)
        return segmentation

    def _begin_runs(self) -> None:
        """Begin all runs that may begin now; called whenever a job came or a run ended."""
        while self._whole_run is None and len(self._queue):
            free_lanes = self._free_lanes()
            if free_lanes:
                # The lanes share what waits, so that none takes a batch and leaves others idle.
                share = -(-len(self._queue) // free_lanes)
                batch = self._take(min(self._max_batch, share))
            elif not self._lane_runs:
                batch = self._take(self._max_batch)
            else:
                return
            if batch:
                self._begin(batch, in_lane=free_lanes > 0)

    def _free_lanes(self) -> int:
        """How many lanes may take a batch: none where the cores could not all be kept busy.

        Nor for an image so large that one in each lane would take more memory than one alone may.
        """
        lanes, running = self._lanes, len(self._lane_runs)
        if lanes is None or running + len(self._queue) < lanes.count:
            return 0
        if self._queue.oldest.pixels * lanes.count > self._model.spec.whole_image_max_pixels:
            return 0
        return lanes.count - running

    def _take(self, max_images: int) -> list[Job]:
        return take_batch(
            self._queue.waiting, max_images=max_images, max_pixels=self._max_batch_pixels
        )

    def _begin(self, batch: list[Job], *, in_lane: bool) -> None:
        self._observe_batch(len(batch))
        model = self._lanes.model if in_lane and self._lanes is not None else self._model
        run = asyncio.get_running_loop().create_task(self._run(model, batch))
        run.add_done_callback(self._ended)
        if in_lane:
            self._lane_runs.add(run)
        else:
            self._whole_run = run

    def _ended(self, run: "asyncio.Task[None]") -> None:
        self._lane_runs.discard(run)
        if run is self._whole_run:
            self._whole_run = None
        if not run.cancelled():
            self._begin_runs()

    async def _run(self, model: SegmentationModel, batch: list[Job]) -> None:
        started_s = monotonic()
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(
                self._threads, run_batch, model, batch
            )
        finally:
            for job in batch:
                job.lease.let_go()
        _hand_out(batch, outcomes, started_s=started_s, finished_s=monotonic())


def _hand_out(
    batch: Sequence[Job],
    outcomes: Sequence[Segmentation | Exception],
    *,
    started_s: float,
    finished_s: float,
) -> None:
    for job, outcome in zip(batch, outcomes, strict=True):
        job.started_s, job.finished_s = started_s, finished_s
        if job.answer.done():
            continue
        if isinstance(outcome, Exception):
            job.answer.set_exception(outcome)
        else:
            job.answer.set_result(outcome)
