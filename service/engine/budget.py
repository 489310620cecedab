"""A bound on the decoded pixels that all requests together hold in memory."""

import threading
from collections import Counter
from types import TracebackType
from typing import Self

from imaging.errors import ImageTooLarge
from service.engine.room import Room
from service.errors import Overloaded

# Whoever holds more than so many times what is left gets no more (dynamic thresholds, Choudhury and
# Hahne 1998): one model alone comes to three quarters, and another finds the last one free.
HELD_TO_FREE = 3


class PixelBudget:
    """Counts decoded pixels; used from the event loop and from the decoding threads.

    No owner, however many images come for it, takes all: the more it holds, the more must be free.

    Attributes:
        max_pixels: the bound.
        room: where to wait for pixels.
    """

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self.room = Room()
        self._held_pixels: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def held_pixels(self) -> int:
        """Pixels held now."""
        with self._lock:
            return self._held_pixels.total()

    def lease(self, owner: str = "") -> "PixelLease":
        """Return a lease that holds nothing yet.

        Args:
            owner: for whom, such as a model's name.
        """
        return PixelLease(self, owner)

    def take(self, pixels: int, owner: str) -> None:
        """Take pixels.

        Raises:
            ImageTooLarge: they would not fit even alone.
            Overloaded: so many are held that these do not fit, or most of them by this owner.
        """
        if pixels > self.max_pixels:
            raise ImageTooLarge(
                f"the image's values need the room of {pixels:,} pixels, more than the "
                f"{self.max_pixels:,} of all images together; send one with fewer channels or a "
                "smaller one"
            )
        with self._lock:
            held = self._held_pixels.total()
            free = self.max_pixels - held
            if pixels > free or self._held_pixels[owner] > HELD_TO_FREE * free:
                raise Overloaded(
                    f"images under way hold {held} of {self.max_pixels} pixels; "
                    f"{pixels} more do not fit now. Send the image again in a moment.",
                    reason="memory",
                )
            self._held_pixels[owner] += pixels

    def give_back(self, pixels: int, owner: str) -> None:
        """Give pixels back."""
        with self._lock:
            self._held_pixels[owner] -= pixels
            if not self._held_pixels[owner]:
                del self._held_pixels[owner]
        if pixels:  # who was refused gives nothing back, and must not wake the next in vain
            self.room.was_given_back()


class PixelLease:
    """The pixels of one request, given back when the last of its holders lets go.

    The holders are the request itself and the threads that work on its image: a thread goes on
    for a while after its request was cancelled, and so does the memory.

    Attributes:
        owner: for whom they are held.
    """

    def __init__(self, budget: PixelBudget, owner: str) -> None:
        self.owner = owner
        self._budget = budget
        self._pixels = 0
        self._holders = 0
        self._lock = threading.Lock()

    def take(self, pixels: int) -> None:
        """Take pixels from the budget.

        Raises:
            Overloaded: they do not fit now.
        """
        self._budget.take(pixels, self.owner)
        with self._lock:
            self._pixels += pixels

    def hold(self) -> None:
        """Add a holder."""
        with self._lock:
            self._holders += 1

    def let_go(self) -> None:
        """Take a holder away; the last one gives the pixels back."""
        with self._lock:
            self._holders -= 1
            if self._holders > 0:
                return
            pixels, self._pixels = self._pixels, 0
        self._budget.give_back(pixels, self.owner)

    def __enter__(self) -> Self:
        self.hold()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.let_go()
