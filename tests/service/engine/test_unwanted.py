"""Work that nobody waits for any more, and answers that would be too large."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.errors import RequestInvalid, RunHalted
from contract.halt import Halt
from contract.model import Model, Segmentation
from contract.spec import Tiles
from imaging.errors import ImageTooLarge
from service.engine.budget import PixelBudget
from service.engine.encode import OUTLINE_PX_MAX, Answer, encode
from service.engine.queue import Batch, Decoded, Job, JobQueue
from service.engine.run import answer_batch, run_batch
from service.errors import ClientGone


@pytest.fixture
def tiled(build_threshold_model: Callable[..., Path], tmp_path: Path) -> Model:
    path = build_threshold_model(
        tmp_path / "m.onnx", whole_image_max_pixels=32 * 32, tiles=Tiles(patch=(32, 32))
    )
    return Model.open(path, device="cpu")


class AskedMeanwhile(Halt):
    """Asked when the run has begun."""

    def watch(self, options: Any) -> None:
        super().watch(options)
        self.ask()


@pytest.mark.parametrize("size_hw", [(100, 130), (20, 20)])  # in tiles, and whole
@pytest.mark.parametrize("halt", [Halt, AskedMeanwhile])
def test_a_run_ends_when_it_is_asked_to(
    tiled: Model, size_hw: tuple[int, int], halt: type[Halt]
) -> None:
    image_chw = np.zeros((1, *size_hw), np.float32)
    watching = halt()
    if halt is AskedMeanwhile:
        with pytest.raises(RunHalted):
            tiled.segment(image_chw, halt=watching)
        with pytest.raises(RunHalted, match="before it began"):  # nor does another begin
            tiled.run(image_chw[None, :, :9, :9], halt=watching)
    else:
        assert tiled.segment(image_chw, halt=watching).labels.shape == size_hw


def test_a_run_goes_on_as_long_as_anybody_waits() -> None:
    async def check() -> None:
        loop, lease = asyncio.get_running_loop(), PixelBudget(1).lease()
        image = Decoded(np.zeros((1, 2, 2), np.float32))
        jobs = [Job(image, False, lease, loop.create_future()) for _ in range(3)]
        together = Batch(jobs[:2])
        queue = JobQueue()
        for job in jobs:
            queue.put(job)
            job.answer.cancel()
        jobs[1].answer = loop.create_future()
        for job in together.jobs:
            queue.waiting.remove(job)
            job.batch = together
        queue.drop(jobs[2])
        queue.drop(jobs[0])
        assert not together.halt.asked
        jobs[1].answer.cancel()
        queue.drop(jobs[1])
        assert together.halt.asked
        assert not queue.waiting

    asyncio.run(check())


def test_a_run_that_was_ended_holds_nothing_that_only_the_collector_finds(tiled: Model) -> None:
    """It may not come by for hours where nothing else is asked."""

    async def play() -> weakref.ref[Any]:
        image_chw = np.zeros((1, 100, 130), np.float32)
        lease = PixelBudget(1).lease()
        job = Job(Decoded(image_chw), False, lease, asyncio.get_running_loop().create_future())
        # In a thread as in the service: its frames hold what the call returned.
        (outcome,) = await asyncio.to_thread(answer_batch, tiled, [job], AskedMeanwhile())
        assert isinstance(outcome, RunHalted)
        return weakref.ref(image_chw)

    gc.disable()
    try:
        assert asyncio.run(play())() is None
    finally:
        gc.enable()


def test_of_a_batch_that_fails_nobody_unwanted_is_run_again(tiled: Model) -> None:
    async def outcomes() -> list[Segmentation | Exception]:
        loop, lease = asyncio.get_running_loop(), PixelBudget(1).lease()
        sizes = [(4, 4), (4, 4), (5, 4)]  # the last one's header lied: they do not stack
        images = [Decoded(np.zeros((1, *size), np.float32)) for size in sizes]
        jobs = [Job(image, False, lease, loop.create_future()) for image in images]
        jobs[0].answer.cancel()
        return run_batch(tiled, jobs, Halt())

    gone, *answered = asyncio.run(outcomes())
    assert isinstance(gone, ClientGone)
    assert [a.labels.shape for a in answered if isinstance(a, Segmentation)] == [(4, 4), (5, 4)]


@pytest.mark.parametrize("answer_format", ["json", "geojson"])
def test_noise_is_not_written_as_outlines(tiled: Model, answer_format: str) -> None:
    side = 1700  # 2 x 1700 x 1699 px of outline in a checkerboard
    board = (np.indices((side, side)).sum(axis=0) % 2).astype(np.uint8)
    answer = Answer(
        spec=tiled.spec,
        segmentation=Segmentation(labels=board, probabilities=None, tiled=False),
        pixels_hwc=None,
        opacity=0.4,
    )
    length_px = 2 * side * (side - 1)
    assert OUTLINE_PX_MAX["geojson"] < length_px > OUTLINE_PX_MAX["json"]
    with pytest.raises(RequestInvalid, match=f"{length_px:,} px of outline"):
        encode(answer, answer_format)  # type: ignore[arg-type]


def test_an_image_that_never_fits_is_too_large_and_not_told_to_come_again() -> None:
    budget = PixelBudget(100)
    with pytest.raises(ImageTooLarge, match="101"):
        budget.take(101, "one")
    budget.take(100, "one")
    assert budget.held_pixels == 100
