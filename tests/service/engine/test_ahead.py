"""Images take their places in the order of coming, and none is lost."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.engine.ahead import Ahead, Place
from service.trace import Trace, begin_trace


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 30))  # type: ignore[arg-type]


async def queued(ahead: Ahead, trace: Trace | None = None) -> "asyncio.Task[Place]":
    task = asyncio.create_task(ahead.take(trace or begin_trace({})))
    await asyncio.sleep(0)
    return task


def test_who_came_first_goes_first_and_its_wait_is_told() -> None:
    async def scene() -> None:
        ahead, trace = Ahead(1), begin_trace({})
        first = await ahead.take(trace)
        assert "queue" not in trace.stages_s
        assert ahead.oldest_wait_s == 0
        second, third = await queued(ahead, trace), await queued(ahead)
        assert ahead.waiting == 2
        await asyncio.sleep(0.02)
        assert ahead.oldest_wait_s >= 0.02
        first.let_go()
        first.let_go()  # once, however often
        place = await second
        assert trace.stages_s["queue"] >= 0.02
        await asyncio.sleep(0)
        assert not third.done()
        assert ahead.waiting == 1
        place.let_go()
        (await third).let_go()
        assert ahead.waiting == 0
        assert ahead.oldest_wait_s == 0

    play(scene)


@pytest.mark.parametrize("just_given", [False, True])
def test_who_leaves_takes_no_place_along(just_given: bool) -> None:
    async def scene() -> None:
        ahead = Ahead(1)
        first = await ahead.take(begin_trace({}))
        gone, stays = await queued(ahead), await queued(ahead)
        if just_given:
            first.let_go()
        gone.cancel()
        await asyncio.wait([gone])
        assert gone.cancelled()
        if not just_given:
            first.let_go()
        (await stays).let_go()
        (await ahead.take(begin_trace({}))).let_go()

    play(scene)
