"""How long a request may take: its body until the deadline, its answer while somebody waits."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from starlette.types import Receive

from service.errors import BodyTooSlow, ClientGone, DeadlineExceeded
from service.trace import Trace

T = TypeVar("T")


@asynccontextmanager
async def arriving(trace: Trace, deadline_s: float) -> AsyncIterator[None]:
    """Give a body no more than ``deadline_s`` to come in, and note how long it took.

    Raises:
        BodyTooSlow: the time was up first.
    """
    try:
        with trace.stage("admit"):
            async with asyncio.timeout(deadline_s):
                yield
    except TimeoutError as error:
        raise BodyTooSlow(
            f"the body did not arrive within {deadline_s:g} s; send a smaller image"
        ) from error


async def wait_while_wanted(
    work: Coroutine[Any, Any, T], receive: Receive, *, seconds_left: float | None, deadline_s: float
) -> T:
    """Run ``work`` and return what it returns; cancel it when nobody waits for it any more.

    Args:
        work: what to run.
        receive: the request's channel, its body already read; then it tells of a disconnect only.
        seconds_left: until the deadline; None: there is none.
        deadline_s: the limit itself, for the message.

    Raises:
        ClientGone: the client closed the connection first.
        DeadlineExceeded: the time was up first.
    """
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_until_gone(receive))
    try:
        await asyncio.wait(
            (working, gone),
            timeout=None if seconds_left is None else max(0.0, seconds_left),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if working.done():
            return working.result()
        if gone.done():
            raise ClientGone("the client closed the connection")
        raise DeadlineExceeded(
            f"no answer within {deadline_s:g} s; send a smaller image, or come again when less "
            "is under way"
        )
    finally:
        for task in (working, gone):
            task.cancel()
        for task in (working, gone):
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
