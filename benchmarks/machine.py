"""What else ran on the machine while a figure was measured."""

import os
from pathlib import Path
from typing import NamedTuple

# Above this share of other load a ratio of two figures is worth little.
DISTURBED_SHARE = 0.05


class _Ticks(NamedTuple):
    busy: int
    all: int
    own: float


class OtherLoad:
    """Tells how much of the cores' time others took since it was made.

    Own time is that of this process, of its children that ended since, and of ``processes``.
    """

    def __init__(self, *processes: int) -> None:
        self._processes = processes
        self._before = self._ticks()

    def share(self) -> float:
        """Return others' share of all cores' time, 0 where the system does not tell."""
        before, after = self._before, self._ticks()
        if before is None or after is None or after.all <= before.all:
            return 0.0
        others = (after.busy - before.busy) - (after.own - before.own)
        return max(0.0, others / (after.all - before.all))

    def _ticks(self) -> _Ticks | None:
        try:
            first = Path("/proc/stat").read_text().splitlines()[0]
            stats = [Path(f"/proc/{pid}/stat").read_text() for pid in self._processes]
        except OSError:
            return None
        user, nice, system, idle, waiting, *rest = (int(ticks) for ticks in first.split()[1:9])
        busy = user + nice + system + sum(rest)
        # After the name, which may hold anything: fields 14 and 15 are user and system time.
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        theirs = sum(int(field[11]) + int(field[12]) for field in fields)
        own = sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK")
        return _Ticks(busy=busy, all=busy + idle + waiting, own=own + theirs)
