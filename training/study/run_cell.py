"""Run one cell: train, score, look. All that it takes and gives lies in its folder.

So any engine that can call a function with a path can run a study: processes of this machine, Ray,
an array of SLURM jobs that share the folder.
"""

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from contract.errors import LongskipError
from training.data.datamodule import SegmentationData
from training.data.fingerprint import fingerprint
from training.data.folder import FolderDataset, open_folder
from training.data.split import read_split
from training.fit.atomic import replace_file
from training.fit.checkpoint import Description, load_graph
from training.fit.config import FitConfig
from training.fit.fit import describe, fit
from training.fit.resume import find_point
from training.fit.run_directory import RunDirectory
from training.graph.assemble import ModelGraph
from training.nets.cost import macs, parameter_count
from training.probe.command import PROBES
from training.probe.probed import Probed
from training.probe.watch_gradients import WatchGradients
from training.probe.watch_norms import WatchNorms
from training.report.clock import read_clock
from training.score.rulers import rulers_for
from training.study.cells import Cell, Outcome, read_cell, read_outcome, write_outcome
from training.study.config import StudyError
from training.study.kept_data import refuse_changed
from training.study.score import CaseResult, score_graph, write_cases
from training.study.settings import cell_config

FAILED = "failed.txt"
# How often a training is looked at, evenly spread.
WATCHED_STEPS = 10
WATCHERS: dict[str, Callable[[int], Callback]] = {
    "gradient-flow": WatchGradients,
    "norm-preservation": WatchNorms,
}


def run_cell(folder: Path, threads: int | None = None) -> None:
    """Finish the cell in ``folder``, from its last checkpoint where it was begun.

    A fault is written to ``failed.txt`` and does not reach the other cells.

    Args:
        folder: holds ``cell.yaml``.
        threads: of torch on the CPU; None: as many as torch takes.
    """
    if read_outcome(folder) is not None:
        return
    if threads is not None:
        torch.set_num_threads(threads)
    started_s = time.monotonic()
    try:
        with (folder / "log.txt").open("a", encoding="utf-8") as log, _into(log):
            outcome = _finish(read_cell(folder), folder, started_s)
        write_outcome(folder, outcome)
    except Exception as error:
        reason = str(error) if isinstance(error, LongskipError) else traceback.format_exc()
        write_failure(folder, reason)


def write_failure(folder: Path, reason: str) -> None:
    """Write why a cell could not be finished.

    Raises:
        OSError: on a full disk, which is for the study to say: no other cell would fare better.
    """
    replace_file(folder / FAILED, lambda file: file.write(f"{reason.rstrip()}\n".encode()))


@contextlib.contextmanager
def _into(log: object) -> Iterator[None]:
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):  # type: ignore[type-var]
        yield


def _finish(cell: Cell, folder: Path, started_s: float) -> Outcome:
    config, text = cell_config(cell, folder)
    dataset = _opened(str(config.data.root), config.data.spec, cell.study(folder), cell.dataset)
    run = RunDirectory(folder / "run")
    if cell.steps:
        _train(config, text, dataset, cell, run)
        description, graph = load_graph(run.checkpoint("last"))
    else:
        description, graph = _untrained(config, dataset)
    device = "cuda" if torch.cuda.is_available() and _uses_gpu(config) else "cpu"
    split = read_split(Path(config.data.split_file or ""), dataset)
    net = Probed(
        graph.to(device),
        description,
        dataset,
        split.test if cell.part == "test" else split.val,
        seed=cell.seed,
        name=cell.arm,
        trained_on=frozenset(split.train),
    )
    cases = _score(cell, net, folder) if cell.steps else []
    figures = _look(cell, net, folder)
    clock = read_clock(run.logs)
    size_hw = _size_hw(graph, config)
    return Outcome(
        dice=mean_dice(cases, net.foreground),
        loss=_mean([case.loss_nats for case in cases]),
        error=_mean([case.error for case in cases]),
        collapsed=bool(cases) and all(case.flat for case in cases),
        diverged=not all(torch.isfinite(p).all() for p in graph.parameters()),
        parameters=parameter_count(graph.net),
        macs=macs(graph.net.cpu(), channels=dataset.channels, size_hw=size_hw),
        macs_hw=size_hw,
        train_s=0.0 if clock is None else clock.total_s,
        cell_s=time.monotonic() - started_s,
        device=device if device == "cpu" else torch.cuda.get_device_name(),
        figures=figures,
    )


def _untrained(config: FitConfig, dataset: FolderDataset) -> tuple[Description, ModelGraph]:
    """Return a net as it is initialised by the cell's seed."""
    L.seed_everything(config.seed, workers=True, verbose=False)
    data = SegmentationData(config.data, config.augment, dataset=dataset)
    description = describe(config, data, fingerprint(dataset, data.split.train))
    return description, description.build_graph().eval()


def _train(
    config: FitConfig, text: str, dataset: FolderDataset, cell: Cell, run: RunDirectory
) -> None:
    """Train from the start, or from where an earlier try was ended."""
    config.trainer["callbacks"] = watchers(cell)
    with contextlib.suppress(LongskipError):
        _, point, _ = find_point(run)
        if point is not None:
            config.resume, config.out = run.root, None
    if config.resume is None and run.root.exists():
        # Killed before its first checkpoint: there is nothing to go on from.
        _remove(run.root)
    fit(config, save_config=lambda path: _write(path, text), dataset=dataset)
    _, point, _ = find_point(run)
    if point is None or point.steps != cell.steps:
        raise StudyError(
            f"the run ended after {0 if point is None else point.steps} of {cell.steps} steps and "
            "cannot be held against the others; look for a setting that ends it early, and at "
            "log.txt"
        )


def watchers(cell: Cell) -> list[Callback]:
    """Return the callbacks that follow the training of ``cell``; they write into its run."""
    every = max(1, cell.steps // WATCHED_STEPS)
    return [WATCHERS[name](every) for name in cell.watch]


def _score(cell: Cell, net: Probed, folder: Path) -> list[CaseResult]:
    cases = score_graph(
        net.graph,
        net.dataset,
        net.stems,
        metrics=cell.metrics,
        rulers=rulers_for(net.dataset, net.stems),
        device=str(net.device),
    )
    write_cases(folder / "cases.csv", cases, class_names=net.class_names, foreground=net.foreground)
    return cases


def _look(cell: Cell, net: Probed, folder: Path) -> dict[str, float]:
    """Run the probes of the cell and return their figures as ``probe.figure``.

    A probe may have nothing to look at (a lesion of skips that are not there): it says so in
    its folder.
    """
    figures: dict[str, float] = {}
    for name in cell.probes:
        place = folder / "probes" / name
        place.mkdir(parents=True, exist_ok=True)
        try:
            found = PROBES[name](net, place)
        except LongskipError as nothing:
            (place / "not-run.txt").write_text(f"{nothing}\n", encoding="utf-8")
            continue
        figures |= {f"{name}.{key}": value for key, value in found.items()}
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def mean_dice(cases: Sequence[CaseResult], foreground: range) -> float | None:
    """Return the mean over classes of the means over cases; None where nothing has a score."""
    by_class = [
        np.array([case.measures[index].values["dice"] for case in cases]) for index in foreground
    ]
    means = [float(np.nanmean(dice)) for dice in by_class if not np.isnan(dice).all()]
    return float(np.mean(means)) if means else None


def _mean(values: Sequence[float]) -> float | None:
    kept = [value for value in values if not math.isnan(value)]
    return float(np.mean(kept)) if kept else None


def _size_hw(graph: ModelGraph, config: FitConfig) -> tuple[int, int]:
    """Return the patch (working size) brought up to the net's divisor."""
    patch = config.data.patch or config.data.working_size or (256, 256)
    divisor = graph.pad.divisor
    height, width = (
        max(math.ceil(side / divisor) * divisor, graph.net.least_side) for side in patch
    )
    return height, width


def _uses_gpu(config: FitConfig) -> bool:
    return config.trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda")


@lru_cache(maxsize=4)
def _opened(root: str, spec: str | None, study: Path, name: str) -> FolderDataset:
    """Open a data set once for all cells that a process runs.

    Raises:
        StudyError: on this machine, or by now, it is not the one that the study began with.
    """
    dataset = open_folder(Path(root), None if spec is None else Path(spec), progress=False)
    refuse_changed(study, name, dataset)
    return dataset


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
