"""How many of a model's images may be decoded before their run begins.

Not all that wait: each holds its pixels and took a core's time, often in vain, as clients leave and
deadlines pass. A few keep the next runs from waiting.
"""

import asyncio
from time import monotonic

from service.trace import Trace


class Ahead:
    """Places for decoded images, handed on in the order of coming; for the event loop only.

    Args:
        places: how many images may be decoded, or about to be, that no run has begun with.
    """

    def __init__(self, places: int) -> None:
        self._free = asyncio.Semaphore(places)
        # Since when who waits has waited, oldest first.
        self._since: dict[object, float] = {}

    @property
    def waiting(self) -> int:
        """Images that wait for a place."""
        return len(self._since)

    @property
    def oldest_wait_s(self) -> float:
        """Seconds that the oldest of them has waited; 0 where none waits."""
        return monotonic() - next(iter(self._since.values())) if self._since else 0.0

    async def take(self, trace: Trace) -> "Place":
        """Wait for a place; the wait counts as one in the queue."""
        if self._free.locked():
            me, since = object(), monotonic()
            self._since[me] = since
            try:
                await self._free.acquire()
            finally:
                del self._since[me]
                trace.add("queue", since, monotonic())
        else:
            await self._free.acquire()
        return Place(self._free)


class Place:
    """Held until the image's run begins, or it never will."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free: asyncio.Semaphore | None = free

    def let_go(self) -> None:
        """Let the next one have it; once, however often it is called."""
        if self._free is not None:
            self._free.release()
            self._free = None
