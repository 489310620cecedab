"""A bound on the decoded pixels that all requests together hold in memory."""

import threading
from types import TracebackType
from typing import Self

from imaging.errors import ImageTooLarge
from service.errors import Overloaded


class PixelBudget:
    """Counts decoded pixels; used from the event loop and from the decoding threads.

    Attributes:
        max_pixels: the bound.
    """

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self._held_pixels = 0
        self._lock = threading.Lock()

    @property
    def held_pixels(self) -> int:
        """Pixels held now."""
        return self._held_pixels

    def lease(self) -> "PixelLease":
        """Return a lease that holds nothing yet."""
        return PixelLease(self)

    def take(self, pixels: int) -> None:
        """Take pixels.

        Raises:
            ImageTooLarge: they would not fit even alone.
            Overloaded: others hold so many that these do not fit.
        """
        if pixels > self.max_pixels:
            raise ImageTooLarge(
                f"the image's values need the room of {pixels:,} pixels, more than the "
                f"{self.max_pixels:,} of all images together; send one with fewer channels or a "
                "smaller one"
            )
        with self._lock:
            if self._held_pixels + pixels > self.max_pixels:
                raise Overloaded(
                    f"images under way hold {self._held_pixels} of {self.max_pixels} pixels; "
                    f"{pixels} more do not fit now. Send the image again in a moment.",
                    reason="memory",
                )
            self._held_pixels += pixels

    def give_back(self, pixels: int) -> None:
        """Give pixels back."""
        with self._lock:
            self._held_pixels -= pixels


class PixelLease:
    """The pixels of one request, given back when the last of its holders lets go.

    The holders are the request itself and the threads that work on its image: a thread goes on
    for a while after its request was cancelled, and so does the memory.
    """

    def __init__(self, budget: PixelBudget) -> None:
        self._budget = budget
        self._pixels = 0
        self._holders = 0
        self._lock = threading.Lock()

    def take(self, pixels: int) -> None:
        """Take pixels from the budget.

        Raises:
            Overloaded: they do not fit now.
        """
        self._budget.take(pixels)
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
        self._budget.give_back(pixels)

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
