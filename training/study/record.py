"""A study's folder as it is read again for its report, finished or midway."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from training.study.cells import Kind
from training.study.collect import CASES, RUNS, SWEEP
from training.study.config import StudyConfig, StudyError

STUDY = "study.yaml"
# What study.yaml holds besides the study.
BESIDES = ("planned", "images", "command", "machine", "versions")
MEAN_OF_CLASSES = "mean of classes"
ALL_PIXELS = "all pixels"
# Of an image as a whole, not of a class.
OF_THE_IMAGE = ("loss_nats", "error")


@dataclass(frozen=True)
class RunRow:
    """A line of ``runs.csv`` or ``sweep.csv``.

    Attributes:
        dataset, arm, seed, lr, steps: what was run.
        state: done, collapsed (one class everywhere), diverged, failed or not done.
        cells: all columns as they are written.
    """

    dataset: str
    arm: str
    seed: int
    lr: float
    steps: int
    state: str
    cells: Mapping[str, str]

    @property
    def scored(self) -> bool:
        """Whether it came to an end, good or bad."""
        return self.state not in ("failed", "not done")

    def number(self, column: str) -> float:
        """Return a figure; NaN where it has none."""
        return _number(self.cells.get(column))


@dataclass(frozen=True)
class ScoreTable:
    """One metric of one class: what each run made of each case.

    Attributes:
        stems: of the cases.
        groups: of the cases, None where a case stands for itself.
        values: by (arm, seed), one per case [n]; NaN is no score.
    """

    stems: tuple[str, ...]
    groups: tuple[str | None, ...]
    values: Mapping[tuple[str, int], NDArray[np.float64]]

    def seeds_of(self, arms: Iterable[str]) -> list[int]:
        """Return the seeds that all of ``arms`` were run with."""
        held = [{seed for arm, seed in self.values if arm == wanted} for wanted in arms]
        return sorted(set.intersection(*held)) if held else []


@dataclass(frozen=True)
class StudyRecord:
    """All that a study's folder tells.

    Attributes:
        root: the folder.
        config: the study.
        planned: data set -> choices, each with ``option``, ``value`` and ``reason``.
        images: data set -> how many train, val, test; classes; task; scored_on; length_unit;
            nsd_tolerance.
        command: as it was typed last.
        machine: that it was run from.
        versions: of packages.
        runs: the reported ones.
        tries: of learning rates.
        cases: rows of ``cases.csv``.
    """

    root: Path
    config: StudyConfig
    planned: Mapping[str, Sequence[Mapping[str, Any]]]
    images: Mapping[str, Mapping[str, Any]]
    command: str
    machine: str
    versions: Mapping[str, str]
    runs: tuple[RunRow, ...]
    tries: tuple[RunRow, ...]
    cases: tuple[Mapping[str, str], ...]

    @property
    def finished(self) -> bool:
        """Whether no run is missing; one that failed is not missing."""
        return bool(self.runs) and all(run.state != "not done" for run in self.runs)

    def runs_of(self, dataset: str, arm: str) -> list[RunRow]:
        """Return the reported runs of an arm on a data set."""
        return [run for run in self.runs if (run.dataset, run.arm) == (dataset, arm)]

    def folder(self, run: RunRow, kind: Kind = "cells") -> Path:
        """Return the cell's folder."""
        leaf = f"seed-{run.seed}" if kind == "cells" else f"lr-{run.lr:g}"
        return self.root / kind / run.dataset / run.arm / leaf

    def classes_of(self, dataset: str) -> list[str]:
        """Return the classes that are scored, in the order of the table."""
        return list(dict.fromkeys(row["class"] for row in self._of_dataset.get(dataset, [])))

    def kinds_of(self, dataset: str, metric: str) -> list[str]:
        """Return what ``scores`` can be asked of: the overall one first, then each class."""
        if metric in OF_THE_IMAGE:
            return [ALL_PIXELS]
        classes = self.classes_of(dataset)
        return [MEAN_OF_CLASSES, *classes] if len(classes) > 1 else classes

    def metrics_of(self, dataset: str) -> list[str]:
        """Return the metrics of the data set's table, Dice first, and those of whole images."""
        rows = self._of_dataset.get(dataset, [])
        held = set(rows[0]) if rows else set()
        return [m for m in (*self.config.metrics_of(dataset), *OF_THE_IMAGE) if m in held]

    def length_unit(self, dataset: str) -> str:
        """Return what lengths are in; studies of earlier versions kept none."""
        return str(self.images[dataset].get("length_unit", "px or mm"))

    def scores(self, dataset: str, metric: str, kind: str) -> ScoreTable:
        """Return one metric of a class, or of all (``kinds_of``) as a mean over those scored."""
        rows = self._of_dataset.get(dataset, [])
        groups = {row["stem"]: row.get("group") or None for row in rows}
        places = {stem: place for place, stem in enumerate(groups)}
        classes = self.classes_of(dataset)
        wanted = [kind] if kind in classes else classes[:1] if kind == ALL_PIXELS else classes
        by_run: dict[tuple[str, int], NDArray[np.float64]] = {}
        for row in rows:
            if row["class"] not in wanted:
                continue
            key = row["arm"], int(row["seed"])
            if key not in by_run:
                by_run[key] = np.full((len(wanted), len(places)), np.nan)
            place = wanted.index(row["class"]), places[row["stem"]]
            by_run[key][place] = _number(row.get(metric))
        values = {key: mean_of_scored(table, axis=0) for key, table in by_run.items()}
        return ScoreTable(tuple(groups), tuple(groups.values()), values)

    @cached_property
    def date(self) -> str:
        """Return the day (UTC) on which the last run ended, such as 2025-01-31."""
        ends = [p.stat().st_mtime for p in self.root.glob("cells/*/*/*/outcome.json")]
        last = max(ends, default=(self.root / STUDY).stat().st_mtime)
        return datetime.fromtimestamp(last, UTC).strftime("%Y-%m-%d")

    @cached_property
    def _of_dataset(self) -> dict[str, list[Mapping[str, str]]]:
        found: dict[str, list[Mapping[str, str]]] = {}
        for row in self.cases:
            found.setdefault(row["dataset"], []).append(row)
        return found


def read_record(root: Path) -> StudyRecord:
    """Read a study's folder.

    Raises:
        StudyError: it is none, or a file of it is damaged.
    """
    path = root / STUDY
    if not path.is_file():
        raise StudyError(f"{root} holds no {STUDY}; run the study first, or give its --out")
    content = read_study_file(path)
    return StudyRecord(
        root=root,
        config=StudyConfig.model_validate(content["study"]),
        **{name: content[name] for name in BESIDES},
        runs=_run_rows(root / RUNS),
        tries=_run_rows(root / SWEEP),
        cases=tuple(_rows(root / CASES, ("dataset", "arm", "seed", "stem", "class", "dice"))),
    )


def read_study_file(path: Path) -> dict[str, Any]:
    """Return what the study.yaml of a study's folder holds.

    Raises:
        StudyError: it is damaged.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        StudyConfig.model_validate(content["study"])
        if {"study", *BESIDES} <= content.keys():
            return dict(content)
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, AttributeError, ValueError):
        pass
    raise StudyError(_damaged(path))


def _damaged(path: Path) -> str:
    return f"{path} is damaged; remove it and run the study's command again, which writes it anew"


def mean_of_scored(values: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    """Return means that leave NaN out; NaN where there is nothing else."""
    scored = ~np.isnan(values)
    count = scored.sum(axis=axis)
    total = np.where(scored, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _run_rows(path: Path) -> tuple[RunRow, ...]:
    rows = _rows(path, ("dataset", "arm", "seed", "lr", "steps", "state"))
    try:
        return tuple(
            RunRow(
                dataset=cells["dataset"],
                arm=cells["arm"],
                seed=int(cells["seed"]),
                lr=float(cells["lr"]),
                steps=int(cells["steps"]),
                state=cells["state"],
                cells=cells,
            )
            for cells in rows
        )
    except ValueError as error:
        raise StudyError(_damaged(path)) from error


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the lines of a table; none where it is not there yet.

    Raises:
        StudyError: it has lines, but not these columns, or is no text.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyError(_damaged(path)) from error
    # A line that was cut off has None where a cell is missing.
    if any(row.get(column) is None for row in rows for column in columns):
        raise StudyError(_damaged(path))
    return rows


def _number(cell: str | None) -> float:
    return float(cell) if cell else math.nan
