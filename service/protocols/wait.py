"""How long a request may take: its body until the deadline, its answer while somebody waits."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
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
    waiting = asyncio.current_task()
    assert waiting is not None
    gone = asyncio.create_task(_until_gone(receive))
    watched = True

    def stop(gone: "asyncio.Task[None]") -> None:
        if watched and not gone.cancelled():
            waiting.cancel()

    gone.add_done_callback(stop)
    try:
        async with asyncio.timeout(seconds_left) as limit:
            return await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DeadlineExceeded(
            f"no answer within {deadline_s:g} s; send a smaller image, or come again when less "
            "is under way"
        ) from error
    except asyncio.CancelledError:
        if not gone.done() or gone.cancelled():
            raise
        waiting.uncancel()
        raise ClientGone("the client closed the connection") from None
    finally:
        watched = False
        gone.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
