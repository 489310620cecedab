"""Conduct a study: prepare, tune, run, collect."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from training.bench.machine import describe_machine, describe_versions
from training.fit.atomic import replace_file
from training.fit.run_directory import PACKAGES
from training.study.cells import (
    Cell,
    check_cells,
    read_outcome,
    reported_cells,
    sweep_cells,
    write_cell,
)
from training.study.collect import collect
from training.study.config import StudyConfig, StudyError
from training.study.engines import ENGINES
from training.study.kept_data import keep
from training.study.lead import leading
from training.study.record import STUDY, read_study_file
from training.study.remaining import remaining
from training.study.run_cell import FAILED
from training.study.settings import Prepared, plan_text, prepare
from training.study.tune import chosen_rates


@dataclass(frozen=True)
class Place:
    """Where a study's cells run.

    Attributes:
        engine: a key of ``ENGINES``.
        jobs: cells at a time.
        options: of the engine.
    """

    engine: str = "local"
    jobs: int = 1
    options: dict[str, Any] | None = None


@dataclass(frozen=True)
class Conducted:
    """A study that was run.

    Attributes:
        reported: its cells.
        sweep: its tries of learning rates.
        failed: folders of cells that could not be finished.
    """

    reported: tuple[Cell, ...]
    sweep: tuple[Cell, ...]
    failed: tuple[Path, ...]


def conduct(config: StudyConfig, root: Path, place: Place) -> Conducted:
    """Run all cells of a study that are not done yet, and write its tables.

    Args:
        config: the study.
        root: its folder; one that was begun is gone on with.
        place: where cells run.

    Raises:
        StudyError: the folder holds another study, another process runs it, or settings do not fit.
        DataError: a data set has faults.
    """
    if not config.datasets:
        raise StudyError("the study names no data set; give one by --dataset NAME=DIR")
    root.mkdir(parents=True, exist_ok=True)
    with leading(root):
        return _conduct(config, root, place)


def _conduct(config: StudyConfig, root: Path, place: Place) -> Conducted:
    _refuse_another(config, root)
    prepared = {name: prepare(config, name, root=root) for name in config.datasets}
    settings = {
        (name, arm): options for name, p in prepared.items() for arm, options in p.settings.items()
    }
    sweep = sweep_cells(config, settings)
    parts = {name: p.part for name, p in prepared.items()}
    # Before anything is written: what was begun with other settings is refused as a whole.
    tried = chosen_rates(config, sweep, root=root)
    check_cells([*sweep, *reported_cells(config, settings, rates=tried, parts=parts)], root)
    for name, p in prepared.items():
        keep(root, name, dataset=p.dataset, split=p.split, spec=p.spec)
    _write_study(config, prepared, root)
    later = [
        cell
        for cell in reported_cells(config, settings, rates=tried, parts=parts)
        if read_outcome(cell.folder(root)) is None
    ]
    failed = _run(config, sweep, root, place, said="learning rates", later=later)
    rates = chosen_rates(config, sweep, root=root)
    reported = reported_cells(config, settings, rates=rates, parts=parts)
    failed += _run(config, reported, root, place, said="runs", sweep=sweep)
    collect(config, root, reported=reported, sweep=sweep)
    return Conducted(tuple(reported), tuple(sweep), tuple(failed))


def _run(
    config: StudyConfig,
    cells: Sequence[Cell],
    root: Path,
    place: Place,
    *,
    said: str,
    sweep: Sequence[Cell] | None = None,
    later: Sequence[Cell] = (),
) -> list[Path]:
    """Run ``cells``; ``later`` ones come after them and count in the time that is left."""
    by_folder = {write_cell(cell, root).resolve(): cell for cell in cells}
    waiting = {folder: c for folder, c in by_folder.items() if read_outcome(folder) is None}
    done = [cell for folder, cell in by_folder.items() if folder not in waiting]
    if not waiting:
        return []
    for folder in waiting:
        (folder / FAILED).unlink(missing_ok=True)
    failed: list[Path] = []
    bar = tqdm(total=len(cells), initial=len(done), desc=said, unit="run", disable=None)
    with bar:
        again = sum((folder / "run" / "checkpoints" / "last.ckpt").is_file() for folder in waiting)
        of_these = f", {again} of them begun or only looked at again" if again else ""
        _tell(
            bar,
            f"{said}: {len(waiting)} of {len(cells)} to do, {place.jobs} at a time{of_these}",
        )
        for folder in _over(list(waiting), place):
            cell = waiting.pop(folder)
            done.append(cell)
            bar.update()
            outcome = read_outcome(folder)
            if outcome is None:
                failed.append(folder)
            collect(config, root, reported=cells if sweep is not None else [], sweep=sweep or cells)
            left = remaining(
                [*(sweep or ()), *done], [*waiting.values(), *later], root=root, jobs=place.jobs
            )
            result = "FAILED" if outcome is None else _result(outcome.dice, outcome.collapsed)
            place_of = f"{cell.dataset} {cell.arm} {folder.name}"
            _tell(bar, f"{len(done)}/{len(cells)} {place_of}: {result}; {left or ''}")
    return failed


def _over(folders: list[Path], place: Place) -> Iterator[Path]:
    yield from ENGINES[place.engine](folders, jobs=place.jobs, options=place.options or {})


def _result(dice: float | None, collapsed: bool) -> str:
    if dice is None:
        return "looked at"
    return f"Dice {dice:.3f}" + (" (collapsed: one answer everywhere)" if collapsed else "")


def _tell(bar: "tqdm[Any]", text: str) -> None:
    bar.write(text, file=sys.stdout)
    sys.stdout.flush()


def _refuse_another(config: StudyConfig, root: Path) -> None:
    path = root / STUDY
    if not path.is_file():
        return
    earlier = read_study_file(path)["study"]
    if (earlier["name"], earlier["question"]) != (config.name, config.question):
        raise StudyError(
            f"{root} holds the study {earlier['name']!r}; give another --out for {config.name!r}"
        )


def _write_study(config: StudyConfig, prepared: dict[str, Prepared], root: Path) -> None:
    """Write what is run and on what."""
    path = root / STUDY
    content = {
        "study": config.model_dump(mode="json"),
        "planned": {name: plan_text(p.choices) for name, p in prepared.items()},
        "images": {
            name: {
                "train": len(p.split.train),
                "val": len(p.split.val),
                "test": len(p.split.test),
                "split": p.split.kind,
                "classes": [c.name for c in p.dataset.classes],
                "task": p.dataset.spec.task,
                "scored_on": p.part,
                "length_unit": p.ruler.unit,
                "nsd_tolerance": p.ruler.nsd_tolerance,
            }
            for name, p in prepared.items()
        },
        "command": shlex.join(["python", "-m", "training", *sys.argv[1:]]),
        "machine": describe_machine(),
        "versions": describe_versions(PACKAGES),
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    replace_file(path, lambda file: file.write(text.encode()))
