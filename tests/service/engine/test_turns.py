"""Models take turns at the threads that decode and encode, and every piece of work has an end."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from service.engine.turns import Turns

WITHIN_S = 30


class Thread:
    """One thread that is busy until it is let go, and what it did after that."""

    def __init__(self) -> None:
        self.turns = Turns(1)
        self.let_go = threading.Event()
        self.did: list[str] = []
        self.busy = self.begin("first", lambda: self.let_go.wait(WITHIN_S))

    def begin(self, owner: str, work: Callable[[], object]) -> "asyncio.Task[object]":
        return asyncio.get_running_loop().create_task(self.turns.run(owner, work))

    def note(self, owner: str, count: int) -> "list[asyncio.Task[object]]":
        return [self.begin(owner, lambda: self.did.append(owner)) for _ in range(count)]


def play(scene: Callable[[Thread], Awaitable[None]]) -> None:
    async def run() -> None:
        thread = Thread()
        await scene(thread)
        thread.let_go.set()
        await thread.turns.close()

    asyncio.run(run())


def test_who_comes_late_waits_for_one_of_each_other_at_most() -> None:
    async def scene(thread: Thread) -> None:
        work = [*thread.note("flood", 5), *thread.note("other", 2), *thread.note("single", 1)]
        await asyncio.sleep(0)
        thread.let_go.set()
        await asyncio.gather(thread.busy, *work)
        took_turns = ["flood", "other", "single", "flood", "other"]
        assert thread.did == [*took_turns, "flood", "flood", "flood"]

    play(scene)


def test_what_nobody_waits_for_is_not_begun() -> None:
    async def scene(thread: Thread) -> None:
        dropped, *kept = thread.note("one", 3)
        await asyncio.sleep(0)
        dropped.cancel()
        thread.let_go.set()
        await asyncio.gather(thread.busy, *kept)
        assert thread.did == ["one", "one"]

    play(scene)


def test_work_that_goes_on_after_its_end_was_awaited_keeps_its_thread() -> None:
    async def scene(thread: Thread) -> None:
        await asyncio.sleep(0)
        thread.busy.cancel()
        late = thread.note("late", 1)
        await asyncio.sleep(0.05)
        assert not thread.did
        thread.let_go.set()
        await asyncio.gather(*late)
        assert thread.did == ["late"]

    play(scene)


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(), SystemExit(1)])
def test_a_failure_is_told_once_and_the_thread_goes_on(error: BaseException) -> None:
    def fail() -> None:
        raise error

    async def scene(thread: Thread) -> None:
        failing = thread.begin("one", fail)
        thread.let_go.set()
        expected = ValueError if isinstance(error, ValueError) else RuntimeError
        with pytest.raises(expected):
            await asyncio.wait_for(failing, WITHIN_S)
        await asyncio.gather(*thread.note("one", 2))
        assert thread.did == ["one", "one"]

    play(scene)


def test_closing_cancels_what_waits() -> None:
    async def scene(thread: Thread) -> None:
        waits = thread.note("one", 1)
        await asyncio.sleep(0)
        thread.let_go.set()
        await thread.turns.close()
        await asyncio.wait(waits, timeout=WITHIN_S)
        assert waits[0].cancelled()
        with pytest.raises(RuntimeError):
            await thread.turns.run("one", thread.let_go.is_set)

    play(scene)
