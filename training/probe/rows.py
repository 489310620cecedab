"""Tidy tables: one row per measurement, a column per field, units in the columns' names."""

import csv
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def write_rows(path: Path, rows: Sequence["DataclassInstance"]) -> None:
    """Write dataclasses of one kind as CSV; NaN and None are empty cells.

    Args:
        path: the file; its folder is made.
        rows: at least one, because the first one names the columns.

    Raises:
        ValueError: there is no row.
    """
    if not rows:
        raise ValueError(f"{path.name} would have no row; nothing was measured")
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [field.name for field in fields(rows[0])]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(getattr(row, column)) for column in columns] for row in rows)


Row = TypeVar("Row", bound="DataclassInstance")


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Read what ``write_rows`` wrote of ``kind``; an empty number is NaN, or None where it may be.

    Raises:
        ValueError: the file has other columns.
    """
    types = get_type_hints(kind)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if list(reader.fieldnames or ()) != [field.name for field in fields(kind)]:
            raise ValueError(f"{path} is no table of {kind.__name__}: it has other columns")
        return [kind(**{c: _value(text, types[c]) for c, text in row.items()}) for row in reader]


def _value(text: str, kind: Any) -> Any:
    if kind is str:
        return text
    if kind is int:
        return int(text)
    if not text:
        return math.nan if kind is float else None
    return float(text)


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.7g}" if isinstance(value, float) else value
