"""How long a run took, from the times that its TensorBoard events bear."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

# Between two logged steps; a longer silence is a run that was stopped and gone on with later.
LONGEST_PAUSE_S = 1800.0


@dataclass(frozen=True)
class Clock:
    """Wall times of a run.

    Attributes:
        total_s: from the first logged step to the last; the time between the parts of a resumed
            run does not count.
        steps: optimiser steps in that time.
        steps_per_s: median over pieces between two logged steps, so validation, which lies in
            few pieces, does not slow it down; None where fewer than two steps were logged.
    """

    total_s: float
    steps: int
    steps_per_s: float | None


def read_clock(logs: Path) -> Clock | None:
    """Return the times of the run whose events lie in ``logs``, None where there are none."""
    rates: list[float] = []
    total_s, steps = 0.0, 0
    for path in sorted(logs.glob("events.out.tfevents.*")):
        marks = _marks(path)
        for (before_s, before), (after_s, after) in pairwise(marks):
            passed_s = after_s - before_s
            if 0 < passed_s < LONGEST_PAUSE_S and after > before:
                rates.append((after - before) / passed_s)
                total_s += passed_s
                steps += after - before
    if not rates:
        return None
    return Clock(total_s, steps, median(rates))


def _marks(path: Path) -> list[tuple[float, int]]:
    """Return (wall time, step) of each step of a file at which something was logged."""
    marks: dict[int, float] = {}
    for event in EventFileLoader(str(path)).Load():
        if isinstance(event, Event) and event.HasField("summary"):
            marks.setdefault(int(event.step), float(event.wall_time))
    return [(seconds, step) for step, seconds in sorted(marks.items())]
