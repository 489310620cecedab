"""Who waits for room is woken by who gives some back: one at a time, in order, from any thread."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from service.engine.budget import PixelBudget
from service.engine.room import Room
from service.errors import Overloaded

LONG_S = 60.0


async def _waiters(room: Room, count: int) -> tuple[list[asyncio.Task[None]], list[int]]:
    """Start so many, and return them with the list of those that were woken, in order."""
    woken: list[int] = []

    async def wait(number: int) -> None:
        await room.wait(LONG_S)
        woken.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(count)]
    await asyncio.sleep(0)
    return tasks, woken


async def _soon(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():
            await asyncio.sleep(0.001)


def in_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())  # type: ignore[arg-type]

    return run


@in_loop
async def test_each_time_wakes_one_and_the_first_first() -> None:
    room = Room()
    tasks, woken = await _waiters(room, 3)
    for number in range(3):
        room.was_given_back()
        await _soon(lambda until=number: len(woken) == until + 1)
        assert woken == list(range(number + 1))
    assert all(task.done() for task in tasks)
    room.was_given_back()  # nobody is there


@in_loop
async def test_it_may_be_given_back_in_a_thread() -> None:
    room = Room()
    _, woken = await _waiters(room, 2)
    threads = [threading.Thread(target=room.was_given_back) for _ in range(2)]
    for thread in threads:
        thread.start()
    await _soon(lambda: len(woken) == 2)
    for thread in threads:
        thread.join()


@in_loop
async def test_who_went_away_or_waited_long_enough_takes_no_turn_from_others() -> None:
    room = Room()
    tasks, woken = await _waiters(room, 2)
    tasks[0].cancel()
    await room.wait(0.01)
    room.was_given_back()
    await _soon(lambda: woken == [1])
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


@in_loop
async def test_pixels_that_are_given_back_wake_and_a_refusal_does_not() -> None:
    budget = PixelBudget(100)
    tasks, woken = await _waiters(budget.room, 1)
    with budget.lease() as holder:
        holder.take(80)
        with pytest.raises(Overloaded), budget.lease() as refused:
            refused.take(30)
        await asyncio.sleep(0.01)
        assert woken == []
    await asyncio.gather(*tasks)
    assert woken == [0]
