"""One model's queue and worker: what waits runs as soon as the worker is free."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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


class Scheduler:
    """Runs one model's images, one batch at a time, in a thread of its own.

    onnxruntime spreads one run over the cores by itself, so a second worker would only make both
    slower. Batches are whatever waits when the worker gets free: an idle service adds no delay.
    """

    def __init__(
        self,
        model: SegmentationModel,
        *,
        max_batch: int,
        max_batch_pixels: int,
        queue_size: int,
        observe_batch: ObserveBatch = lambda _: None,
    ) -> None:
        self._model = model
        self._max_batch = max_batch
        self._max_batch_pixels = max_batch_pixels
        self._queue_size = queue_size
        self._observe_batch = observe_batch
        self._under_way = 0
        self._queue = JobQueue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"run-{model.spec.name}")
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Images that wait for the worker."""
        return len(self._queue)

    def start(self) -> None:
        """Start the worker in the running event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Stop the worker; what still waits is cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._queue.drop_all()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

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
        segmentation = await answer
        trace.add("queue", job.started_s - job.queued_s)
        trace.add("run", job.finished_s - job.started_s)
        return segmentation

    async def _work(self) -> None:
        while True:
            # In a function of its own, because its variables would hold the last batch's images
            # for as long as the service is idle.
            await self._work_off_one_batch()

    async def _work_off_one_batch(self) -> None:
        batch = await self._queue.next_batch(self._take)
        self._observe_batch(len(batch))
        started_s = monotonic()
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(
                self._thread, run_batch, self._model, batch
            )
        finally:
            for job in batch:
                job.lease.let_go()
        _hand_out(batch, outcomes, started_s=started_s, finished_s=monotonic())

    def _take(self, waiting: deque[Job]) -> list[Job]:
        return take_batch(
            waiting,
            max_images=self._max_batch,
            max_pixels=self._max_batch_pixels,
        )


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
