"""How long a request may take: its body until the deadline, its answer while somebody waits."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from service.errors import BodyTooSlow, ClientGone, DeadlineExceeded
from service.trace import Trace

T = TypeVar("T")
WHEN_GONE_KEY = "longskip.when_gone"
"""In the scope of a request: called with what to call when the client goes, or with None."""


@contextmanager
def arriving(trace: Trace, deadline_s: float) -> Iterator[None]:
    """Give a body no more than ``deadline_s`` to come in, and note how long it took.

    Raises:
        BodyTooSlow: the time was up first.
    """

    def too_slow() -> Exception:
        return BodyTooSlow(f"the body did not arrive within {deadline_s:g} s; send a smaller image")

    with trace.stage("admit"), _Endable() as body:
        timer = asyncio.get_running_loop().call_later(deadline_s, body.end, too_slow)
        try:
            yield
        finally:
            timer.cancel()


async def wait_while_wanted(
    work: Coroutine[Any, Any, T],
    scope: Scope,
    receive: Receive,
    *,
    seconds_left: float | None,
    deadline_s: float,
) -> T:
    """Run ``work`` and return what it returns; cancel it when nobody waits for it any more.

    Args:
        work: what to run.
        scope: the request's.
        receive: its channel, the body already read; then it tells of a disconnect only.
        seconds_left: until the deadline; None: there is none.
        deadline_s: the limit itself, for the message.

    Raises:
        ClientGone: the client closed the connection first.
        DeadlineExceeded: the time was up first.
    """

    def late() -> Exception:
        return DeadlineExceeded(
            f"no answer within {deadline_s:g} s; send a smaller image, or come again when less "
            "is under way"
        )

    def gone() -> Exception:
        return ClientGone("the client closed the connection")

    with _Endable() as waiting:
        timer = None
        if seconds_left is not None:
            timer = asyncio.get_running_loop().call_later(seconds_left, waiting.end, late)
        watch_no_more = _watch(scope, receive, lambda: waiting.end(gone))
        try:
            return await work
        finally:
            watch_no_more()
            if timer is not None:
                timer.cancel()


class _Endable:
    """A block of the current task that callbacks may end by an error of theirs.

    What ``asyncio.timeout`` does for one of them, at a quarter of its cost.
    """

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._error: Callable[[], Exception] | None = None
        self._over = False

    def end(self, error: Callable[[], Exception]) -> None:
        """Cancel the block; it raises the first error that was given."""
        if not self._over and self._error is None:
            self._error = error
            self._task.cancel()

    def __enter__(self) -> "_Endable":
        self._cancelled_before = self._task.cancelling()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over = True
        if self._error is None:
            return
        cancelled_by_others = self._task.uncancel() > self._cancelled_before
        if kind is asyncio.CancelledError and not cancelled_by_others:
            raise self._error() from None


def _watch(scope: Scope, receive: Receive, stop: Callable[[], None]) -> Callable[[], object]:
    """Have ``stop`` called when the client goes; return what ends the watch."""
    when_gone = scope.get(WHEN_GONE_KEY)
    if when_gone is not None:
        when_gone(stop)
        return lambda: when_gone(None)
    # Another server than our own (service/connection.py).
    watching = asyncio.create_task(_until_gone(receive))
    watching.add_done_callback(lambda watched: None if watched.cancelled() else stop())
    return watching.cancel


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
