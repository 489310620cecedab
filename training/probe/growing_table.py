"""A table that grows while a net is trained, and that a resumed training goes on with."""

import csv
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args, get_type_hints

from training.fit.atomic import replace_file


class StepRow(Protocol):
    """A dataclass of plain values, one of which is the step it was measured at."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def step(self) -> int:
        """Optimiser steps taken before."""


STEPS_DRAWN = 7
Row = TypeVar("Row", bound=StepRow)


class GrowingTable(Generic[Row]):
    """Rows of one dataclass in a CSV file: an empty cell is None, or NaN where None cannot be.

    Args:
        path: the file; its folder is made.
        kind: the dataclass, whose fields are the columns.
    """

    def __init__(self, path: Path, kind: type[Row]) -> None:
        self.path = path
        self._kind = kind
        self._columns = [field.name for field in fields(kind)]

    def begin(self, step: int) -> None:
        """Keep rows of steps before ``step``: later ones will come again."""
        kept = [row for row in self.read() if row.step < step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        header = ",".join(self._columns) + "\n"
        replace_file(self.path, lambda file: file.write(header.encode()))
        self.add(kept)

    def add(self, rows: Sequence[Row]) -> None:
        """Append ``rows``."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([_cell(getattr(row, name)) for name in self._columns] for row in rows)

    def read(self) -> list[Row]:
        """Return all rows; half a row, of a process killed while it wrote, is none."""
        if not self.path.is_file():
            return []
        hints = get_type_hints(self._kind)
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        return [
            self._kind(**{name: _value(row[name], hints[name]) for name in self._columns})
            for row in csv.DictReader(whole.splitlines())
        ]


def spread_steps(rows: Sequence[StepRow]) -> list[int]:
    """Return a few of the rows' steps, spread evenly, the first and the last among them."""
    steps = sorted({row.step for row in rows})
    count = min(STEPS_DRAWN, len(steps))
    places = (round(i * (len(steps) - 1) / max(count - 1, 1)) for i in range(count))
    return [steps[place] for place in places]


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _value(cell: str, hint: Any) -> Any:
    kinds = get_args(hint) or (hint,)
    if cell == "" and str not in kinds:
        return None if NoneType in kinds else math.nan
    if bool in kinds:
        return cell == "True"
    return kinds[0](cell)
