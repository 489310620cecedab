"""Score a trained net on a part of the data set, case by case.

The stages that are scored are those that `export` writes into a file; a study of a hundred nets
does without the hundred files.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from contract.measures import ClassMeasures, measure_labels
from imaging.channels import to_chw_float32
from training.data.folder import IGNORE, FolderDataset, load_image, load_mask
from training.fit.atomic import replace_file
from training.graph.assemble import ModelGraph
from training.score.rulers import Rulers

LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class CaseResult:
    """One image.

    Attributes:
        stem: of the image.
        group: of the image, or None.
        measures: of each class by index.
        loss_nats: mean cross-entropy over the counted pixels (and classes, for multilabel tasks).
        error: share of the counted pixels (and classes) that are wrong.
        flat: the answer is the same on every pixel, though the truth is not.
    """

    stem: str
    group: str | None
    measures: tuple[ClassMeasures, ...]
    loss_nats: float
    error: float
    flat: bool


def score_graph(
    graph: ModelGraph,
    dataset: FolderDataset,
    stems: Sequence[str],
    *,
    metrics: Sequence[str],
    rulers: Rulers,
    device: str,
) -> list[CaseResult]:
    """Segment and score the images named by ``stems``.

    Args:
        graph: in eval mode.
        dataset: that has the images.
        stems: which ones.
        metrics: names of contract.measures.METRICS.
        rulers: what lengths are measured in.
        device: as torch names it.
    """
    task = graph.activate.task
    graph = graph.to(device)
    found = []
    for case in dataset.select(stems):
        image_chw = to_chw_float32(load_image(case, dataset.channels))
        with torch.inference_mode():
            answers = graph(torch.from_numpy(image_chw)[None].to(device))
        labels, probabilities = (answer[0].float().cpu().numpy() for answer in answers[:2])
        labels = labels.astype(np.uint8)
        truth = load_mask(case, dataset.spec)
        measures = measure_labels(
            labels,
            truth,
            task=task,
            n_classes=len(dataset.classes),
            metrics=metrics,
            ruler=rulers.of(case.stem),
            ignore=IGNORE,
        )
        counted = truth != IGNORE
        found.append(
            CaseResult(
                stem=case.stem,
                group=case.group,
                measures=tuple(measures),
                loss_nats=_cross_entropy_nats(probabilities, truth, counted, task),
                error=float(np.mean(labels[counted] != truth[counted]))
                if counted.any()
                else math.nan,
                flat=_flat(labels) and not _flat(truth),
            )
        )
    return found


def _flat(labels: NDArray[np.uint8]) -> bool:
    """Whether all pixels have one value; of classes that may overlap, each plane."""
    planes = labels.reshape(-1, *labels.shape[-2:])
    return all(plane.min() == plane.max() for plane in planes)


def _cross_entropy_nats(
    probabilities: NDArray[np.float32],
    truth: NDArray[np.uint8],
    counted: NDArray[np.bool_],
    task: str,
) -> float:
    if not counted.any():
        return math.nan
    if task == "multilabel":
        of_truth = np.where(truth == 1, probabilities, 1 - probabilities)
    else:
        index = np.where(counted, truth, 0)[None]
        of_truth = np.take_along_axis(probabilities, index.astype(np.intp), axis=0)[0]
    chosen = of_truth[counted].astype(np.float64)
    return float(-np.log(np.clip(chosen, LEAST_PROBABILITY, 1)).mean())


def write_cases(
    path: Path, cases: Iterable[CaseResult], *, class_names: Sequence[str], foreground: range
) -> None:
    """Write a row per image and class; an empty cell is a score that does not exist."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    header: list[str] | None = None
    for case in cases:
        for index in foreground:
            measured = case.measures[index]
            if header is None:
                header = ["stem", "group", "class", *measured.values, "loss_nats", "error"]
                header += ["prediction_px", "truth_px"]
                writer.writerow(header)
            values = [*measured.values.values(), case.loss_nats, case.error]
            counts = [measured.counts.prediction_px, measured.counts.truth_px]
            cells = ["" if math.isnan(value) else f"{value:.6f}" for value in values]
            writer.writerow([case.stem, case.group or "", class_names[index], *cells, *counts])
    replace_file(path, lambda file: file.write(text.getvalue().encode()))
