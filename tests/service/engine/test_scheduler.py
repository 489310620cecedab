"""Few images run one after the other over all cores, many side by side on one core each."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.errors import OutOfMemory
from contract.model import Model, Segmentation
from service.engine import scheduler
from service.engine.budget import PixelBudget
from service.engine.scheduler import Lanes, Scheduler
from service.trace import begin_trace

WITHIN_S = 30


class Held:
    """A real model, each of whose runs waits to be let go; it notes what it ran."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)
        self.ran: list[tuple[int, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def _wait(self, shape: tuple[int, ...]) -> None:
        self.ran.append(shape)
        self.entered.release()
        assert self.let_go.acquire(timeout=WITHIN_S)

    def run(self, image_nchw: Any, **options: Any) -> Any:
        self._wait(image_nchw.shape)
        return self._model.run(image_nchw, **options)

    def segment(self, image_chw: Any, **options: Any) -> Segmentation:
        self._wait((1, *image_chw.shape))
        return self._model.segment(image_chw, **options)


class Bench:
    """A scheduler with lanes whose runs the test lets go one by one."""

    def __init__(self, model: Model, lanes: int) -> None:
        self.whole, self.lane = Held(model), Held(model)
        self.budget = PixelBudget(10**9)
        self.scheduler = Scheduler(
            self.whole,
            key=("grey", 1),
            max_batch=8,
            max_batch_pixels=64 * 64,
            queue_size=64,
            decoded_ahead=4,
            lanes=Lanes(self.lane, lanes),
        )

    def send(self, *size: int) -> "asyncio.Task[Segmentation]":
        return asyncio.get_running_loop().create_task(self._segment(*size))

    async def _segment(self, *size: int) -> Segmentation:
        image_chw = np.full((1, *size), 200, np.float32)
        with self.budget.lease() as lease:
            lease.take(size[0] * size[1])
            return await self.scheduler.segment(
                image_chw, probabilities=False, lease=lease, trace=begin_trace({})
            )


async def entered(held: Held) -> None:
    assert await asyncio.to_thread(held.entered.acquire, timeout=WITHIN_S)


@pytest.fixture
def play(models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Play a scene against a scheduler with so many lanes, for which no run is quick."""
    monkeypatch.setattr(scheduler, "QUICK_S", 0.0)
    model = Model.open(models / "grey" / "1" / "model.onnx", device="cpu", threads=1)

    def play(scene: Callable[[Bench], Awaitable[None]], *, lanes: int) -> None:
        async def run() -> None:
            bench = Bench(model, lanes)
            await scene(bench)
            await bench.scheduler.close()

        asyncio.run(run())

    return play


def test_few_take_all_cores_and_many_one_each(play: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        first = bench.send(2, 2)
        await entered(bench.whole)
        crowd = [bench.send(64, 64) for _ in range(3)]
        await asyncio.sleep(0)
        assert bench.scheduler.waiting == 3  # nothing begins beside a run over all cores
        bench.whole.let_go.release()
        await first
        # Both lanes are busy at one time; an image as large as a batch may be goes alone.
        await entered(bench.lane)
        await entered(bench.lane)
        assert bench.scheduler.waiting == 1
        bench.lane.let_go.release(3)
        await asyncio.gather(*crowd)
        last = bench.send(3, 3)
        await entered(bench.whole)
        bench.whole.let_go.release()
        await last
        assert bench.whole.ran == [(1, 1, 2, 2), (1, 1, 3, 3)]
        assert bench.lane.ran == [(1, 1, 64, 64)] * 3

    play(scene, lanes=2)


def test_quick_runs_go_one_by_one(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "QUICK_S", 60.0)

    async def scene(bench: Bench) -> None:
        first = bench.send(2, 2)  # nobody knows yet how long one takes
        await entered(bench.whole)
        bench.whole.let_go.release()
        await first
        crowd = [bench.send(8, 8)]
        await entered(bench.lane)
        crowd += [bench.send(8, 8) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert bench.scheduler.waiting == 3
        bench.lane.let_go.release(2)
        await asyncio.gather(*crowd)
        assert bench.lane.ran == [(1, 1, 8, 8), (3, 1, 8, 8)]
        assert bench.whole.ran == [(1, 1, 2, 2)]

    play(scene, lanes=2)


def test_a_run_that_was_ended_is_not_taken_for_quick(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "QUICK_S", 60.0)

    async def scene(bench: Bench) -> None:
        gone = bench.send(2, 2)
        await entered(bench.whole)
        gone.cancel()
        await asyncio.wait([gone])
        bench.whole.let_go.release(2)
        await bench.send(2, 2)
        assert bench.whole.ran == [(1, 1, 2, 2)] * 2
        assert not bench.lane.ran

    play(scene, lanes=2)


def test_who_comes_after_all_have_left_gets_all_cores(play: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        crowd = [bench.send(64, 64) for _ in range(2)]
        for _ in crowd:
            await entered(bench.lane)
        for task in crowd:
            task.cancel()
        await asyncio.wait(crowd)
        last = bench.send(64, 64)
        await asyncio.sleep(0.05)
        assert bench.scheduler.waiting == 1
        bench.lane.let_go.release(2)  # their runs end one after the other
        bench.whole.let_go.release()
        await last
        assert bench.whole.ran == [(1, 1, 64, 64)]
        assert len(bench.lane.ran) == 2

    play(scene, lanes=2)


def test_lanes_share_small_images(play: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        first = bench.send(2, 2)
        await entered(bench.whole)
        crowd = [bench.send(8, 8) for _ in range(5)]
        await asyncio.sleep(0)
        bench.whole.let_go.release()
        bench.lane.let_go.release(2)
        await asyncio.gather(first, *crowd)
        assert sorted(bench.lane.ran) == [(2, 1, 8, 8), (3, 1, 8, 8)]

    play(scene, lanes=2)


def test_one_lane_alone_does_not_go_on_while_cores_would_idle(play: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        first = bench.send(2, 2)
        await entered(bench.whole)
        crowd = [bench.send(64, 64) for _ in range(3)]
        await asyncio.sleep(0)
        bench.whole.let_go.release()
        for _ in crowd:
            await entered(bench.lane)
        bench.lane.let_go.release(2)
        await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)
        while sum(task.done() for task in crowd) < 2:
            await asyncio.sleep(0.01)
        late = bench.send(4, 4)
        await asyncio.sleep(0.05)
        assert bench.scheduler.waiting == 1  # one in a lane and one waiting: two of three cores
        bench.lane.let_go.release()
        await entered(bench.whole)
        bench.whole.let_go.release()
        await asyncio.gather(first, late, *crowd)
        assert bench.whole.ran == [(1, 1, 2, 2), (1, 1, 4, 4)]

    play(scene, lanes=3)


def test_large_images_never_run_side_by_side(play: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        limit = bench.whole.spec.whole_image_max_pixels
        side = 1 + int((limit / 2) ** 0.5)
        bench.whole.let_go.release(4)
        crowd = [bench.send(side, side) for _ in range(4)]
        answers = await asyncio.gather(*crowd)
        assert [answer.labels.shape for answer in answers] == [(side, side)] * 4
        assert len(bench.whole.ran) == 4
        assert not bench.lane.ran

    play(scene, lanes=2)


def test_closing_cancels_what_waits_and_what_runs(play: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        first = bench.send(2, 2)
        await entered(bench.whole)
        waits = bench.send(3, 3)
        await asyncio.sleep(0)
        bench.whole.let_go.release()
        await bench.scheduler.close()
        # Nobody waits for ever: neither who stood in the queue nor whose image was running.
        await asyncio.wait([first, waits], timeout=WITHIN_S)
        assert waits.cancelled()
        assert first.cancelled()
        late = bench.send(2, 2)
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(late, WITHIN_S)

    play(scene, lanes=2)


@pytest.mark.parametrize("error", [MemoryError(), StopIteration(), SystemExit(1)])
def test_every_image_gets_an_answer_however_its_run_ends(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    async def scene(bench: Bench) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        for held in (bench.whole, bench.lane):
            monkeypatch.setattr(held, "run", fail)
            monkeypatch.setattr(held, "segment", fail)
        expected = OutOfMemory if isinstance(error, MemoryError) else RuntimeError
        crowd = [bench.send(4, 4) for _ in range(7)]
        done, pending = await asyncio.wait(crowd, timeout=WITHIN_S)
        assert not pending
        assert all(isinstance(task.exception(), expected) for task in done)
        assert bench.budget.held_pixels == 0
        assert bench.scheduler.waiting == 0

    play(scene, lanes=2)


def test_an_image_that_nobody_waits_for_gives_its_memory_back_at_once(
    play: Callable[..., None],
) -> None:
    async def scene(bench: Bench) -> None:
        first = bench.send(2, 2)
        await entered(bench.whole)
        waits = [bench.send(30, 30) for _ in range(2)]
        await asyncio.sleep(0)
        assert bench.budget.held_pixels == 4 + 2 * 900
        waits[0].cancel()
        await asyncio.wait(waits[:1])
        assert bench.budget.held_pixels == 4 + 900
        assert bench.scheduler.waiting == 1
        bench.whole.let_go.release(2)
        await asyncio.gather(first, waits[1])
        assert bench.whole.ran == [(1, 1, 2, 2), (1, 1, 30, 30)]
        assert bench.budget.held_pixels == 0

    play(scene, lanes=2)


@pytest.mark.parametrize(
    ("side", "kept", "others"), [(257, "KEPT_S", "KEPT_IDLE_S"), (30, "KEPT_IDLE_S", "KEPT_S")]
)
def test_memory_goes_back_soon_after_a_large_image_and_after_a_rest(
    play: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    side: int,
    kept: str,
    others: str,
) -> None:
    monkeypatch.setattr(scheduler, kept, 0.1)
    monkeypatch.setattr(scheduler, others, 600.0)
    handed_back = threading.Event()

    async def scene(bench: Bench) -> None:
        monkeypatch.setattr(bench.whole, "hand_memory_back", handed_back.set, raising=False)
        bench.whole.let_go.release()
        await bench.send(256, side)
        assert await asyncio.to_thread(handed_back.wait, WITHIN_S)

    play(scene, lanes=2)


def test_memory_stays_while_images_come(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "KEPT_IDLE_S", 1.0)
    handed_back = threading.Event()

    async def scene(bench: Bench) -> None:
        monkeypatch.setattr(bench.whole, "hand_memory_back", handed_back.set, raising=False)
        bench.whole.let_go.release(9)
        for _ in range(3):
            await bench.send(30, 30)
            await asyncio.sleep(0.1)
        assert not handed_back.is_set()
        assert await asyncio.to_thread(handed_back.wait, WITHIN_S)

    play(scene, lanes=2)
