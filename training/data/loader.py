"""A DataLoader that knows how long it has been waited for."""

import time
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from training.data.samples import Sample


class TimedLoader(DataLoader[Sample]):
    """Counts the seconds in which the training could do nothing but wait for a batch.

    Attributes:
        waited_s: in all passes so far. With workers 0 it is the time that loading takes.
    """

    waited_s: float = 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches of one pass."""
        batches = super().__iter__()
        while True:
            asked_s = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - asked_s
            if batch is None:
                return
            yield batch
