"""Threads that work for one event loop and tell it by a call when a piece of work has ended.

``loop.run_in_executor`` does as much with two futures and their locks for each piece; they took the
loop 0.03 ms, more than a small image's other bookkeeping together.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Work = Callable[[], Any]
Ended = Callable[[Any, BaseException | None], None]
"""Called in the loop with what the work returned, or with what it raised."""
Begun = tuple[Work, Ended]
Inbox = SimpleQueue[Begun | None]
"""Of one thread; None ends it."""


class Threads:
    """Up to so many threads, each started when all others are busy; for the event loop only.

    Of idle ones the one goes on that worked last: its core still has at hand what it needs.
    """

    def __init__(self, count: int, *, name: str) -> None:
        self._count = count
        self._name = name
        self._threads: list[threading.Thread] = []
        self._idle: list[Inbox] = []  # the one that worked last stands last
        self._waiting: deque[Begun] = deque()
        self._closed = False

    def begin(self, work: Work, ended: Ended) -> None:
        """Let a thread work as soon as one is free.

        Raises:
            RuntimeError: no thread can be started, or they are closed.
        """
        if self._closed:
            raise RuntimeError("these threads are closed")
        if not self._idle and len(self._threads) < self._count:
            self._start_one()
        if self._idle:
            self._idle.pop().put((work, ended))
        else:
            self._waiting.append((work, ended))

    async def close(self) -> None:
        """Begin nothing more, and wait for all that was begun."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _start_one(self) -> None:
        loop, inbox = asyncio.get_running_loop(), Inbox()
        name = f"{self._name}-{len(self._threads)}"
        # Not waited for by a process that ends in a hurry; close() does.
        thread = threading.Thread(target=self._run, args=(loop, inbox), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)
        self._idle.append(inbox)

    def _run(self, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> None:
        while (begun := inbox.get()) is not None:
            work, ended = begun
            returned, error = _outcome(work)
            loop.call_soon_threadsafe(self._end, inbox, ended, returned, error)
            # Until the next piece comes they would be held by this thread.
            del begun, work, ended, returned, error

    def _end(self, inbox: Inbox, ended: Ended, returned: Any, error: BaseException | None) -> None:
        if self._waiting:
            inbox.put(self._waiting.popleft())
        elif self._closed:
            inbox.put(None)
        else:
            self._idle.append(inbox)
        ended(returned, error)


def _outcome(work: Work) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:
        return None, error
