"""The grid: every run of a study is a cell with a folder of its own.

<study>/cells/<data set>/<arm>/seed-0/     a run that is reported
<study>/sweep/<data set>/<arm>/lr-0.002/   a try of a learning rate
    cell.yaml      what is run; written before it starts
    run/           the run directory of `fit`
    outcome.json   what came out; written last, so a cell that has it is done
    cases.csv      a row per image and class
    failed.txt     the traceback of a cell that could not be finished
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from training.fit.atomic import replace_file
from training.study.config import TRIAL_SEED, Settings, StudyConfig, StudyError
from training.study.kept_data import spec_content

Kind = Literal["cells", "sweep"]


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        kind: reported, or a try of a learning rate.
        dataset: name.
        arm: name.
        seed: of weights, order and augmentation.
        lr: learning rate.
        steps: optimiser steps.
        settings: all options of `fit` that are not its own defaults, dotted.
        part: of the images that it is scored on.
        metrics: what each case is scored by, Dice first.
        probes: run on the trained net.
        watch: followed while it trains.
    """

    kind: Kind
    dataset: str
    arm: str
    seed: int
    lr: float
    steps: int
    settings: Settings
    part: Literal["val", "test"]
    metrics: tuple[str, ...]
    probes: tuple[str, ...] = ()
    watch: tuple[str, ...] = ()

    def folder(self, root: Path) -> Path:
        """Return its place in the study's folder."""
        leaf = f"seed-{self.seed}" if self.kind == "cells" else f"lr-{self.lr:g}"
        return root / self.kind / self.dataset / self.arm / leaf

    @staticmethod
    def study(folder: Path) -> Path:
        """Return the study's folder, of which ``folder`` is a cell's."""
        return folder.resolve().parents[3]


@dataclass(frozen=True)
class Outcome:
    """What a cell found.

    Attributes:
        dice: mean over classes of the means over cases; None where no case has a score.
        loss: mean cross-entropy per pixel in nats, so that two collapsed runs still differ.
        error: share of pixels that are wrong.
        collapsed: every image got one answer on all its pixels, background or another class.
        diverged: a weight or the loss is no finite number.
        parameters: trainable values.
        macs: multiply-accumulates of one image of ``macs_hw`` pixels.
        macs_hw: size that ``macs`` counts, (H, W).
        train_s: from the first logged step to the last; other work on the machine is in it.
        cell_s: of the whole cell.
        device: what it was trained on.
        figures: headline figures of the probes, by ``probe.figure``.
    """

    dice: float | None
    loss: float | None
    error: float | None
    collapsed: bool
    diverged: bool
    parameters: int
    macs: int
    macs_hw: tuple[int, int]
    train_s: float
    cell_s: float
    device: str
    figures: dict[str, float]


def write_cell(cell: Cell, root: Path) -> Path:
    """Write ``cell.yaml`` and return the cell's folder.

    Raises:
        StudyError: the folder holds another run's cell.
    """
    folder = cell.folder(root)
    changed = _changed_since(cell, folder)
    path, content = folder / "cell.yaml", _plain(cell)
    if changed is not None and content == _read(path):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if changed is not None and changed - {"data.root"}:
        (folder / "outcome.json").unlink(missing_ok=True)
    text = yaml.safe_dump(content, sort_keys=False)
    replace_file(path, lambda file: file.write(text.encode()))
    return folder


def check_cells(cells: Sequence[Cell], root: Path) -> None:
    """Raise StudyError where one was begun with other settings.

    The rate of a reported cell follows from tries that may not be over, and is not looked at.
    """
    for cell in cells:
        folder = cell.folder(root)
        path = folder / "cell.yaml"
        if cell.kind == "cells" and path.is_file():
            cell = replace(cell, lr=_read(path)["lr"])
        _changed_since(cell, folder)


def _changed_since(cell: Cell, folder: Path) -> set[str] | None:
    """Return what is other than in ``cell.yaml`` and may be; None where there is none yet."""
    path = folder / "cell.yaml"
    if not path.is_file():
        return None
    earlier = _read(path)
    changed = _changed(_plain(cell), earlier)
    # More probes can be asked of a net that was trained already, and data may be moved.
    refused = changed - {"probes", "metrics", "data.root"}
    spec = earlier["settings"].get("data.spec")
    if refused == {"data.spec"} and isinstance(spec, str) and not Path(spec).is_file():
        raise StudyError(
            f"{folder} keeps of data.spec that it was {spec}, where no file is now; put it back "
            "there once, and its content is kept from then on"
        )
    if refused:
        raise StudyError(
            f"{folder} was begun with other settings ({', '.join(sorted(refused))} differ); give "
            "another --out, or remove that folder to run it again"
        )
    return changed


def _plain(cell: Cell) -> dict[str, Any]:
    # Through JSON, as it will be read: tuples become lists.
    content: dict[str, Any] = json.loads(json.dumps(asdict(cell)))
    return content


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if {"settings", "lr", "seed"} <= set(content):
            return dict(content)
    except (yaml.YAMLError, UnicodeDecodeError, TypeError):
        pass
    raise StudyError(f"{path} is damaged; remove its folder to run the cell again")


def _changed(content: dict[str, Any], earlier: dict[str, Any]) -> set[str]:
    """Return the names of what differs, options of `fit` by their own."""
    one, other = ({**cell, **cell["settings"], "settings": None} for cell in (content, earlier))
    spec = other.get("data.spec")
    # Once it was kept as a path.
    if isinstance(spec, str) and Path(spec).is_file():
        other["data.spec"] = spec_content(Path(spec))
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def read_cell(folder: Path) -> Cell:
    """Return the cell that ``write_cell`` wrote into ``folder``."""
    content = _read(folder / "cell.yaml")
    for name in ("metrics", "probes", "watch"):
        content[name] = tuple(content[name])
    return Cell(**content)


def read_outcome(folder: Path) -> Outcome | None:
    """Return what the cell in ``folder`` found, or None where it is not done."""
    path = folder / "outcome.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Outcome(**{**content, "macs_hw": tuple(content["macs_hw"])})
    except (ValueError, TypeError, KeyError) as error:
        raise StudyError(f"{path} is damaged; remove it to score the cell again") from error


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write what a cell found; from now on it counts as done."""
    text = json.dumps(asdict(outcome), indent=2) + "\n"
    replace_file(folder / "outcome.json", lambda file: file.write(text.encode()))
    (folder / "failed.txt").unlink(missing_ok=True)


def sweep_cells(config: StudyConfig, settings: dict[tuple[str, str], Settings]) -> list[Cell]:
    """Return the tries of learning rates; none where there is one rate only, or no training."""
    if len(config.learning_rates) < 2 or config.steps == 0:
        return []
    return [
        Cell(
            kind="sweep",
            dataset=dataset,
            arm=arm,
            seed=TRIAL_SEED,
            lr=lr,
            steps=max(1, round(config.steps * config.sweep_fraction)),
            settings=settings[dataset, arm],
            part="val",
            metrics=("dice",),
        )
        for dataset in config.datasets
        for arm in config.all_arms
        for lr in config.learning_rates
    ]


def reported_cells(
    config: StudyConfig,
    settings: dict[tuple[str, str], Settings],
    *,
    rates: dict[tuple[str, str], float],
    parts: dict[str, Literal["val", "test"]],
) -> list[Cell]:
    """Return the cells that the report is about, seed by seed so that early results are whole.

    Args:
        config: the study.
        settings: by data set and arm.
        rates: learning rate by data set and arm.
        parts: what each data set is scored on.
    """
    return [
        Cell(
            kind="cells",
            dataset=dataset,
            arm=arm,
            seed=seed,
            lr=rates[dataset, arm],
            steps=config.steps,
            settings=settings[dataset, arm],
            part=parts[dataset],
            metrics=config.metrics_of(dataset),
            probes=(*config.probes, *(config.probes_once if first else ())),
            watch=config.watch if first else (),
        )
        for first, seed in ((index == 0, seed) for index, seed in enumerate(config.seeds))
        for dataset in config.datasets
        for arm in config.all_arms
    ]
