"""All cells of a study as tables: a row per run, a row per run, image and class."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from training.fit.atomic import replace_file
from training.study.cells import Cell, read_outcome
from training.study.config import StudyConfig
from training.study.run_cell import FAILED

RUNS, CASES, SWEEP = "runs.csv", "cases.csv", "sweep.csv"


def collect(
    config: StudyConfig, root: Path, *, reported: Sequence[Cell], sweep: Sequence[Cell]
) -> None:
    """Write ``runs.csv``, ``cases.csv`` and ``sweep.csv`` of what is done so far."""
    _write(root / RUNS, [_run_row(config, cell, root) for cell in reported])
    _write(root / SWEEP, [_run_row(config, cell, root) for cell in sweep])
    rows: list[dict[str, Any]] = []
    for cell in reported:
        path = cell.folder(root) / "cases.csv"
        if read_outcome(cell.folder(root)) is None or not path.is_file():
            continue
        own = {"dataset": cell.dataset, "arm": cell.arm, "seed": cell.seed}
        with path.open(newline="", encoding="utf-8") as file:
            rows += [own | row for row in csv.DictReader(file)]
    _write(root / CASES, rows)


def _run_row(config: StudyConfig, cell: Cell, root: Path) -> dict[str, Any]:
    folder = cell.folder(root)
    outcome = read_outcome(folder)
    failed = folder / FAILED
    if outcome is not None:
        state = "diverged" if outcome.diverged else "collapsed" if outcome.collapsed else "done"
    else:
        state = "failed" if failed.is_file() else "not done"
    row: dict[str, Any] = {
        "dataset": cell.dataset,
        "arm": cell.arm,
        **config.levels_of(cell.arm),
        "seed": cell.seed,
        "lr": cell.lr,
        "steps": cell.steps,
        "state": state,
    }
    if outcome is None:
        return row
    return row | {
        "part": cell.part,
        "dice": outcome.dice,
        "loss_nats": outcome.loss,
        "error": outcome.error,
        "parameters": outcome.parameters,
        "macs": outcome.macs,
        "macs_height_px": outcome.macs_hw[0],
        "macs_width_px": outcome.macs_hw[1],
        "train_s": round(outcome.train_s, 2),
        "device": outcome.device,
        **outcome.figures,
    }


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
    replace_file(path, lambda file: file.write(text.getvalue().encode()))
