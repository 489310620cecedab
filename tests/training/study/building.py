"""Study folders with scores that a test chooses, written by the parts that write real ones."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from training.study.cells import Outcome, reported_cells, sweep_cells, write_cell, write_outcome
from training.study.collect import collect
from training.study.config import StudyConfig

Scores = Mapping[tuple[str, str, int], Sequence[Sequence[float]]]
"""(data set, arm, seed) -> Dice of each class of each case."""


def build_study(
    parent: Path,
    study: Mapping[str, Any],
    scores: Scores,
    *,
    classes: Sequence[str] = ("cell",),
    groups: Sequence[str] = (),
    states: Mapping[tuple[str, str, int], str] | None = None,
    sweep: Mapping[tuple[str, str, float], float] | None = None,
    figures: Mapping[str, Mapping[str, float]] | None = None,
) -> Path:
    """Write a study's folder: a run for each entry of ``scores``; others are not done.

    ``states`` by the same keys: ``collapsed``, ``diverged`` or ``failed``. Dice of tries by (data
    set, arm, rate); figures of probes by arm.
    """
    root = parent / study["name"]
    config = StudyConfig.model_validate(study)
    settings = {
        (d, arm): {**config.base, **options, "data.root": "/secret/place/of/images"}
        for d in config.datasets
        for arm, options in config.all_arms.items()
    }
    rates = {key: config.learning_rates[0] for key in settings}
    tries = sweep_cells(config, settings)
    for cell in tries:
        folder = write_cell(cell, root)
        dice = (sweep or {}).get((cell.dataset, cell.arm, cell.lr))
        if dice is not None:
            write_outcome(folder, _outcome(dice, "done", {}))
            rates[cell.dataset, cell.arm] = max(
                (rate for d, arm, rate in sweep or {} if (d, arm) == (cell.dataset, cell.arm)),
                key=lambda rate: (sweep or {})[cell.dataset, cell.arm, rate],
            )
    parts = dict.fromkeys(config.datasets, "test")
    cells = reported_cells(config, settings, rates=rates, parts=parts)  # type: ignore[arg-type]
    for cell in cells:
        folder = write_cell(cell, root)
        key = cell.dataset, cell.arm, cell.seed
        state = (states or {}).get(key, "done")
        if state == "failed":
            (folder / "failed.txt").write_text("no memory\n", encoding="utf-8")
        elif key in scores:
            dice = np.array(scores[key], dtype=float)
            _write_cases(folder / "cases.csv", dice, classes, groups)
            mean = float(np.nanmean(dice)) if not np.isnan(dice).all() else None
            write_outcome(folder, _outcome(mean, state, (figures or {}).get(cell.arm, {})))
    content = {
        "study": config.model_dump(mode="json"),
        "planned": {
            d: [{"option": "trainer.precision", "value": "32-true", "reason": "no bfloat16"}]
            for d in config.datasets
        },
        "images": {
            d: {"train": 9, "val": 2, "test": 4, "split": "random", "task": "multiclass"}
            | {"classes": ["background", *classes], "scored_on": "test"}
            for d in config.datasets
        },
        "command": "python -m training study mine --dataset a=/secret/place/of/images",
        "machine": "2 cores x86_64",
        "versions": {"python": "3.11.7", "torch": "2.15.0"},
    }
    (root / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    collect(config, root, reported=cells, sweep=tries)
    return root


def _outcome(dice: float | None, state: str, figures: Mapping[str, float]) -> Outcome:
    return Outcome(
        dice=dice,
        loss=0.5,
        error=0.1,
        collapsed=state == "collapsed",
        diverged=state == "diverged",
        parameters=1234,
        macs=5_000_000,
        macs_hw=(64, 64),
        train_s=2.0,
        cell_s=3.0,
        device="cpu",
        figures=dict(figures),
    )


def _write_cases(path: Path, dice: Any, classes: Sequence[str], groups: Sequence[str]) -> None:
    columns = ["stem", "group", "class", "dice", "loss_nats", "error"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "prediction_px", "truth_px"])
        for case, of_classes in enumerate(dice):
            group = groups[case] if groups else ""
            for name, value in zip(classes, of_classes, strict=True):
                cell = "" if np.isnan(value) else f"{value:.6f}"
                writer.writerow([f"case{case}", group, name, cell, "0.5", "0.1", 10, 10])
