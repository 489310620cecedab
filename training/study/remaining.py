"""How long a study will still take, from what its finished cells took."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from training.study.cells import Cell, read_outcome


@dataclass(frozen=True)
class Remaining:
    """Time until the last of some cells, if the machine goes on as it did.

    Attributes:
        low_s: where arms that were not timed yet are like the fastest of their data set.
        high_s: where they are like the slowest.
    """

    low_s: float
    high_s: float

    def __str__(self) -> str:
        """Return it in words; one figure where both ends agree within a tenth."""
        if self.high_s <= 1.1 * self.low_s or clock(self.low_s) == clock(self.high_s):
            return f"about {clock(self.high_s)} left"
        return f"{clock(self.low_s)} to {clock(self.high_s)} left"


def remaining(
    done: Sequence[Cell], waiting: Sequence[Cell], *, root: Path, jobs: int
) -> Remaining | None:
    """Return the time that ``waiting`` cells will take, or None before any has been timed.

    A cell takes the seconds per step of its arm on its data set. Arms without a finished cell
    are taken between the fastest and the slowest arm of the data set (else of the study).
    """
    paces: dict[tuple[str, str], list[float]] = {}
    for cell in done:
        outcome = read_outcome(cell.folder(root))
        if outcome is not None:
            paces.setdefault((cell.dataset, cell.arm), []).append(
                outcome.cell_s / max(cell.steps, 1)
            )
    if not paces:
        return None
    by_arm = {key: mean(values) for key, values in paces.items()}
    low = high = 0.0
    for cell in waiting:
        own = by_arm.get((cell.dataset, cell.arm))
        alike = [pace for (dataset, _), pace in by_arm.items() if dataset == cell.dataset]
        spread = [own] if own is not None else alike or list(by_arm.values())
        low += min(spread) * max(cell.steps, 1)
        high += max(spread) * max(cell.steps, 1)
    return Remaining(low / jobs, high / jobs)


def clock(seconds: float) -> str:
    """Return e.g. ``40 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
