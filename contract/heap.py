"""How the C library (glibc) holds memory; elsewhere nothing is done."""

import ctypes
import functools
import sys
from typing import Any

_M_ARENA_MAX = -8  # malloc.h


def share_heap() -> None:
    """Let all threads share one heap, where glibc otherwise gives each its own; call it early.

    What one thread frees is of no use to another then, and of a heap that is not the first one
    ``trim_heap`` leaves the end as it is, which kept up to 35 MB. Threads here allocate few and
    large pieces, so they hardly wait for each other.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def trim_heap() -> None:
    """Hand memory that was freed back to the system."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


@functools.cache  # each ``CDLL`` is a circle of objects, left to the collector
def _of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
