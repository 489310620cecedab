"""What a run logged, read from its ``logs/metrics*.csv`` while it goes on or after it ended."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.stems import natural_key


@dataclass(frozen=True)
class Series:
    """One logged quantity.

    Attributes:
        steps: optimiser steps done when a value was logged, ascending.
        values: the values; NaN and infinity are kept, for a run that diverged shows them.
    """

    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.values)

    @property
    def last(self) -> float | None:
        """The latest value, None where nothing was logged."""
        return self.values[-1] if self.values else None


@dataclass(frozen=True)
class History:
    """All series of a run by the name that they were logged under.

    Attributes:
        series: such as ``train/loss_epoch`` and ``val/dice``.
        epochs: whole epochs done.
        steps_per_epoch: None before the first epoch ended.
    """

    series: Mapping[str, Series]
    epochs: int
    steps_per_epoch: float | None

    def get(self, name: str) -> Series:
        """Return the series of ``name``, an empty one where it was never logged."""
        return self.series.get(name, Series())

    def named(self, prefix: str) -> dict[str, Series]:
        """Return the series whose names begin with ``prefix``, by the rest of their names."""
        return {
            name.removeprefix(prefix): series
            for name, series in self.series.items()
            if name.startswith(prefix)
        }

    @property
    def dice_by_class(self) -> dict[str, Series]:
        """Validation Dice by class; earlier versions wrote a slash before the class."""
        return self.named("val/dice.") or self.named("val/dice/")

    def in_epochs(self, series: Series) -> list[float]:
        """Return where the values lie, in epochs; in steps before the first epoch ended."""
        per_epoch = self.steps_per_epoch or 1.0
        return [step / per_epoch for step in series.steps]

    @property
    def first_not_finite(self) -> int | None:
        """The step at which the training loss was first NaN or infinite; None: never."""
        broken = [
            step
            for name in ("train/loss_step", "train/loss_epoch")
            for step, value in zip(self.get(name).steps, self.get(name).values, strict=True)
            if not math.isfinite(value)
        ]
        return min(broken, default=None)

    @property
    def learning_rate(self) -> Series:
        """The first parameter group's learning rate."""
        return next(
            (s for name, s in sorted(self.series.items()) if name.startswith("lr-")), Series()
        )


def read_history(logs: Path) -> History:
    """Read ``metrics-1.csv``, ``metrics-2.csv``, … and ``metrics.csv``, the parts of one run.

    A part that a resumed run took up again before its end is cut where the next part begins. A
    line that was being written when it was read, or when the run was killed, is left out.
    """
    parts = [_rows(path) for path in _part_files(logs)]
    rows: list[dict[str, float]] = []
    for part in parts:
        if part:
            first = part[0]["step"]
            rows = [row for row in rows if row["step"] < first]
            rows += part
    epochs, steps_per_epoch = 0, None
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        done = int(row["step"]) + 1
        if "train/loss_epoch" in row and "epoch" in row:
            epochs = max(epochs, int(row["epoch"]) + 1)
            steps_per_epoch = done / (row["epoch"] + 1)
        for name, value in row.items():
            if name not in ("step", "epoch"):
                found.setdefault(name, []).append((done, value))
    series = {
        name: Series(tuple(s for s, _ in pairs), tuple(v for _, v in pairs))
        for name, pairs in found.items()
    }
    return History(series, epochs, steps_per_epoch)


def _part_files(logs: Path) -> Sequence[Path]:
    earlier = sorted(logs.glob("metrics-*.csv"), key=lambda path: natural_key(path.name))
    return [path for path in (*earlier, logs / "metrics.csv") if path.is_file()]


def _rows(path: Path) -> list[dict[str, float]]:
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(file):
            try:
                row = {name: float(cell) for name, cell in cells.items() if name and cell}
            except (TypeError, ValueError):
                continue  # half written
            if "step" in row:
                rows.append(row)
    return rows
