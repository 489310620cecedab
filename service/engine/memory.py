"""Hand back, every few seconds, what the process holds and nobody needs any more.

A process at rest does nothing of it by itself: errors and what they hold stand in circles until the
collector has new objects to look at, and the C library's heap keeps what was freed.
"""

import asyncio
import gc
from contextlib import suppress

from contract.heap import trim_heap

EVERY_S = 10.0


async def hand_back_regularly() -> None:
    """Do so until cancelled."""
    while True:
        await asyncio.sleep(EVERY_S)
        # Here and not in a thread: what is let go may be the event loop's. It takes 2 to 5 ms.
        gc.collect()
        with suppress(RuntimeError):  # no thread can be started
            await asyncio.to_thread(trim_heap)
