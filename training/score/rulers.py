"""What the lengths of each image are measured in: one spacing for all, or each its own."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from contract.errors import DataError, RequestInvalid
from contract.measures import DEFAULT_TOLERANCE_PX, Ruler
from training.data.folder import FolderDataset
from training.data.pairs import IMAGE_SUFFIXES

Spacing = tuple[float, float]
"""(row, column) in mm."""


@dataclass(frozen=True)
class Rulers:
    """A ruler for each image; all have one unit and one tolerance.

    Attributes:
        common: where an image has none of its own.
        by_stem: of images that have.
    """

    common: Ruler = field(default_factory=Ruler)
    by_stem: Mapping[str, Ruler] = field(default_factory=dict)

    def of(self, stem: str) -> Ruler:
        """Return the ruler of one image."""
        return self.by_stem.get(stem, self.common)


def rulers_for(
    dataset: FolderDataset,
    stems: Sequence[str],
    *,
    spacing_mm: str | None = None,
    nsd_tolerance: float | None = None,
) -> Rulers:
    """Return the rulers of ``stems``.

    What is given on the command line wins; then the columns of the data set's table that
    ``spacing_columns`` in dataset.yaml names; then its ``spacing_mm``; then pixels. With a spacing
    of each image's own, the tolerance that nobody gave is two pixels of the median image.

    Args:
        dataset: that has the images.
        stems: which ones.
        spacing_mm: one number, or rows,columns; None: as the data set says.
        nsd_tolerance: in the unit of lengths; None: two pixels.

    Raises:
        RequestInvalid: ``spacing_mm`` is not one or two numbers.
        DataError: the table lacks the column or the number of an image; a number is not above 0.
    """
    if spacing_mm is not None:
        return Rulers(Ruler(read_spacing(spacing_mm), nsd_tolerance))
    spec = dataset.spec
    if spec.spacing_columns is None:
        return Rulers(Ruler(spec.spacing_mm, nsd_tolerance))
    own = _from_table(dataset.root / str(spec.table), spec.stem_column, spec.spacing_columns, stems)
    if nsd_tolerance is None:
        coarser = float(np.median([max(spacing) for spacing in own.values()]))
        nsd_tolerance = DEFAULT_TOLERANCE_PX * coarser
    rulers = {stem: Ruler(spacing, nsd_tolerance) for stem, spacing in own.items()}
    return Rulers(next(iter(rulers.values())), rulers)


def read_spacing(text: str) -> Spacing:
    """Return (row, column) in mm of one number, or of rows,columns.

    Raises:
        RequestInvalid: it is neither.
    """
    try:
        steps = [float(step) for step in text.strip("[]() ").split(",")]
    except ValueError:
        steps = []
    if len(steps) not in (1, 2):
        raise RequestInvalid(
            f"--spacing-mm {text}: give millimetres per pixel as one number, such as 0.25, or as "
            "rows,columns, such as 0.5,0.25"
        )
    return steps[0], steps[-1]


def _from_table(
    path: Path, stem_column: str, columns: Sequence[str], stems: Sequence[str]
) -> dict[str, Spacing]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            known, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: the table cannot be read ({error})") from error
    for column in (stem_column, *columns):
        if column not in known:
            raise DataError(
                f"{path} has no column {column!r}; its columns are {', '.join(known)}. Set "
                "spacing_columns in dataset.yaml to those that hold the millimetres per pixel"
            )
    cells: dict[str, tuple[str, str]] = {}
    for row in rows:
        stem = (row[stem_column] or "").strip()
        # Tables often name the file where the stem is meant.
        stem = Path(stem).stem if Path(stem).suffix.lower() in IMAGE_SUFFIXES else stem
        cells[stem] = (row[columns[0]] or "", row[columns[-1]] or "")
    return {stem: _millimetres(path, stem, cells.get(stem)) for stem in stems}


def _millimetres(path: Path, stem: str, cells: tuple[str, str] | None) -> Spacing:
    try:
        if cells is None:
            raise ValueError("no row")
        row_mm, column_mm = (float(cell) for cell in cells)
        Ruler((row_mm, column_mm))
    except (ValueError, DataError) as error:
        found = "there is no row of it" if cells is None else f"it has {', '.join(cells)!r}"
        raise DataError(
            f"{path}: no spacing of {stem!r}, {found}; give millimetres per pixel above 0 for "
            "every image, or one spacing_mm for all instead of spacing_columns in dataset.yaml"
        ) from error
    return row_mm, column_mm
