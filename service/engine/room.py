"""Where an image waits for what others give back: pixels of the budget, or a place at its model."""

import asyncio
from collections import deque


class Room:
    """Wakes one of those who wait at each time that something is given back.

    Not all of them: what one gave back is enough for few, and the others would ask in vain.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self, at_most_s: float) -> None:
        """Wait until it is this one's turn to ask again; in vain, where somebody is quicker.

        Args:
            at_most_s: after which it asks again in any case, such as where more was given back at
                one time than one image needs.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait((turn,), timeout=at_most_s)
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def was_given_back(self) -> None:
        """Wake who has waited longest; called from any thread."""
        try:
            turn = self._waiting[0]
        except IndexError:
            return
        turn.get_loop().call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)
