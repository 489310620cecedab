"""Step 3 of data's way: images wait here for their model."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from contract.halt import Halt
from contract.model import Intensities, Segmentation
from service.engine.ahead import Place
from service.engine.budget import PixelLease

Bucket = tuple[int, int, bool]
"""Height, width, and whether probabilities are asked for: only equals share a batch."""


class JobImage(Protocol):
    """An image that waits, and what is made of its segmentation."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """In pixels."""

    def read(self) -> Intensities:
        """Return the raw intensities ``[C, H, W]``; called in the run's thread."""

    def write(self, segmentation: Segmentation) -> Any:
        """Return what the request waits for; called there, too."""


@dataclass(frozen=True)
class Decoded:
    """An image that is decoded, and wants its segmentation as it is.

    Attributes:
        image_chw: raw intensities, float32 ``[C, H, W]``.
    """

    image_chw: Intensities

    @property
    def size_hw(self) -> tuple[int, int]:
        """In pixels."""
        return self.image_chw.shape[1], self.image_chw.shape[2]

    def read(self) -> Intensities:
        """Return the raw intensities."""
        return self.image_chw

    def write(self, segmentation: Segmentation) -> Segmentation:
        """Return the segmentation."""
        return segmentation


@dataclass(eq=False)
class Job:
    """One image that waits for its model.

    A job whose future is done before its turn (the client went, the deadline passed) is dropped.

    Attributes:
        image: decoded already, or by the run.
        probabilities: whether they are asked for beside the labels.
        lease: the image's memory; held until the job was run or dropped.
        answer: what the request waits for.
        skip_gain: a factor per long skip, finest first; None for a model without a dial. Images
            of one batch may differ in it.
        place: let go when its run begins; None where the image was not decoded in one.
        queued_s: ``time.monotonic()`` when it was put in.
        started_s: the same when its batch began to run, 0 before.
        finished_s: the same when its batch was done, 0 before.
        batch: those that run with it, and what ends their run; None before.
    """

    image: JobImage
    probabilities: bool
    lease: PixelLease
    answer: asyncio.Future[Any]
    skip_gain: tuple[float, ...] | None = None
    place: Place | None = None
    queued_s: float = field(default_factory=time.monotonic)
    started_s: float = 0.0
    finished_s: float = 0.0
    batch: "Batch | None" = None

    @cached_property
    def image_chw(self) -> Intensities:
        """Raw intensities, float32 ``[C, H, W]``, read when they are asked for first."""
        return self.image.read()

    @property
    def pixels(self) -> int:
        """Height x width."""
        height, width = self.image.size_hw
        return height * width

    @property
    def bucket(self) -> Bucket:
        """What another job must share to be run with this one."""
        return (*self.image.size_hw, self.probabilities)


@dataclass(frozen=True, eq=False)
class Batch:
    """Jobs that run together.

    Attributes:
        jobs: oldest first.
        halt: ends their run.
    """

    jobs: Sequence[Job]
    halt: Halt = field(default_factory=Halt)

    def halt_if_unwanted(self) -> None:
        """End the run when nobody waits for any of its images any more."""
        if all(job.answer.done() for job in self.jobs):
            self.halt.ask()


class JobQueue:
    """First in, first out; ``put`` never blocks, because slots bound how many can come.

    Attributes:
        waiting: oldest first.
    """

    def __init__(self) -> None:
        self.waiting: deque[Job] = deque()

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def oldest(self) -> Job:
        """The job whose turn comes next; an ``IndexError`` where none waits."""
        return self.waiting[0]

    def put(self, job: Job) -> None:
        """Add a job."""
        job.lease.hold()
        self.waiting.append(job)

    def drop(self, job: Job) -> None:
        """Take a job out again whose answer nobody wants any more; its run ends if it is alone."""
        if job.batch is not None:
            job.batch.halt_if_unwanted()
        elif job in self.waiting:
            self.waiting.remove(job)
            job.lease.let_go()

    def drop_all(self) -> None:
        """Cancel all jobs that wait."""
        while self.waiting:
            job = self.waiting.popleft()
            job.answer.cancel()
            job.lease.let_go()
