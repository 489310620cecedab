"""``logs/metrics.csv``: one row for each thing logged, one file for a run however often resumed."""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from training.fit.atomic import replace_file


class MetricsFile(Logger):
    """Appends rows; columns stand in alphabetical order, an empty cell was not logged then.

    Lightning's CSVLogger deletes the file of an earlier part of the run.

    Args:
        path: the file.
        keep_rows: how many rows of an earlier part stay; those after them were logged past the
            checkpoint that the run goes on from, and will come again.
    """

    def __init__(self, path: Path, *, keep_rows: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.columns: list[str] = []
        self.rows = 0
        self._pending: list[dict[str, Any]] = []
        if path.is_file() and not getattr(rank_zero_only, "rank", 0):
            self._keep(keep_rows)

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """Nothing: the run's folder is the version."""
        return ""

    @property
    def log_dir(self) -> str:
        """Folder of the file."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Leave settings to config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int | None = None) -> None:
        """Note a row."""
        row = {k: v.item() if isinstance(v, Tensor) else v for k, v in metrics.items()}
        self._pending.append({**row, "step": self.rows if step is None else step})

    @rank_zero_only
    def save(self) -> None:
        """Write the rows that are not in the file yet."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        new = {name for row in pending for name in row} - set(self.columns)
        if new:
            rows = self._read()
            self.columns = sorted({*self.columns, *new})
            self._rewrite([*rows, *pending])
        else:
            text = self._text(pending, header=False)
            with self.path.open("a", newline="") as file:
                file.write(text)
        self.rows += len(pending)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()

    def secure(self) -> int:
        """Bring all rows to the disk and return how many there are."""
        self.save()
        if self.path.is_file():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        return self.rows

    def _keep(self, keep_rows: int | None) -> None:
        rows = self._read()
        if keep_rows is not None:
            rows = rows[:keep_rows]
        self.columns = sorted({name for row in rows for name, cell in row.items() if cell != ""})
        self.rows = len(rows)
        self._rewrite(rows)

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            reader = csv.DictReader(file)
            # A process killed while it wrote leaves half a row.
            return [row for row in reader if None not in row and None not in row.values()]

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        text = self._text(rows, header=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, lambda file: file.write(text.encode()))

    def _text(self, rows: list[dict[str, Any]], *, header: bool) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
