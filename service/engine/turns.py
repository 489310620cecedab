"""Threads that decode and encode, of which models with work waiting take turns."""

import asyncio
from collections import deque
from functools import partial
from typing import Any, TypeAlias

from service.engine.threads import Threads, Work

Answer: TypeAlias = "asyncio.Future[Any]"


class Turns:
    """A bounded number of threads for the work of many owners, used from the event loop only.

    Whoever has nothing under way waits for one piece of work of each other owner at most, however
    much these have brought: first in, first out would let one model's answers, each a second of
    compression, stand before another's one small image.
    """

    def __init__(self, threads: int) -> None:
        self._threads = Threads(threads, name="codec")
        self._free = threads
        # Owners in the order of their turns, each with its work, oldest first.
        self._waiting: dict[str, deque[tuple[Work, Answer]]] = {}

    async def run(self, owner: str, work: Work) -> Any:
        """Run work in a thread and return what it returns; not begun, it is dropped if cancelled.

        Raises:
            Exception: whatever the work raises.
        """
        answer: Answer = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append((work, answer))
        self._begin()
        return await answer

    async def close(self) -> None:
        """Cancel what waits, and wait for what runs."""
        for _, answer in (entry for entries in self._waiting.values() for entry in entries):
            answer.cancel()
        self._waiting.clear()
        await self._threads.close()

    def _begin(self) -> None:
        while self._free and self._waiting:
            owner = next(iter(self._waiting))
            entries = self._waiting.pop(owner)
            work, answer = entries.popleft()
            if entries:
                self._waiting[owner] = entries  # behind all others
            if answer.done():
                continue
            try:
                self._threads.begin(work, partial(self._ended, answer))
            except RuntimeError as error:  # no thread can be started, or they are closed
                answer.set_exception(error)
                continue
            self._free -= 1

    def _ended(self, answer: Answer, returned: Any, error: BaseException | None) -> None:
        self._free += 1
        if answer.done():
            pass
        elif error is not None:
            answer.set_exception(raisable(error))
        else:
            answer.set_result(returned)
        self._begin()


def raisable(error: BaseException) -> Exception:
    """Return an error that a future takes and that does not end the event loop it is raised in."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"work in a thread ended by {type(error).__name__}")
