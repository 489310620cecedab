"""Run a model file over a data set and score every case."""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contract.errors import DataError
from contract.metrics import ClassScore, Summary, score_labels, summarise
from contract.model import Model
from contract.spec import MetricSummary
from imaging.channels import to_chw_float32
from training.data.folder import IGNORE, Case, FolderDataset, load_image, load_mask

METRICS = ("dice", "iou")
CSV_COLUMNS = (
    "stem", "class", "dice", "iou", "prediction_px", "truth_px", "height_px", "width_px", "tiled",
)  # fmt: skip


@dataclass(frozen=True)
class ScoredCase:
    """Scores of one image, one per class; ``labels`` is what the file answered."""

    case: Case
    height_px: int
    width_px: int
    tiled: bool
    scores: tuple[ClassScore, ...]
    labels: np.ndarray


def score_cases(model: Model, dataset: FolderDataset, stems: Sequence[str]) -> Iterator[ScoredCase]:
    """Segment and score the images named by ``stems``, one after the other.

    Raises:
        DataError: the data set's classes are not the model's.
    """
    check_classes(model, dataset)
    for case in dataset.select(stems):
        image = to_chw_float32(load_image(case, model.spec.channels))
        answer = model.segment(image)
        scores = score_labels(
            answer.labels,
            load_mask(case, dataset.spec),
            task=model.spec.task,
            n_classes=len(model.spec.classes),
            ignore=IGNORE,
        )
        yield ScoredCase(
            case=case,
            height_px=image.shape[1],
            width_px=image.shape[2],
            tiled=answer.tiled,
            scores=tuple(scores),
            labels=answer.labels,
        )


def check_classes(model: Model, dataset: FolderDataset) -> None:
    """Raise DataError where the data set holds other classes or another task than the model."""
    have, want = len(dataset.classes), len(model.spec.classes)
    if have != want or dataset.spec.task != model.spec.task:
        raise DataError(
            f"{dataset.root} has {have} classes ({', '.join(c.name for c in dataset.classes)}; "
            f"{dataset.spec.task}), the model {model.spec.name} has {want} "
            f"({', '.join(model.spec.class_names)}; {model.spec.task}). Give a dataset.yaml with "
            "the model's classes by --data.spec, or another model."
        )


def scored_classes(model: Model) -> range:
    """Return the indices of the classes that are reported: all but the background."""
    return range(0 if model.spec.task == "multilabel" else 1, len(model.spec.classes))


def summarise_cases(
    model: Model, cases: Sequence[ScoredCase], *, seed: int = 0
) -> dict[str, dict[str, Summary]]:
    """Return metric -> class name -> mean over cases with its bootstrap interval."""
    return {
        metric: {
            model.spec.class_names[index]: summarise(
                [getattr(case.scores[index], metric) for case in cases], seed=seed
            )
            for index in scored_classes(model)
        }
        for metric in METRICS
    }


def mean_dice(model: Model, cases: Sequence[ScoredCase]) -> float:
    """Mean over cases, then over classes; classes that no case holds are left out."""
    table = np.array([[c.scores[i].dice for i in scored_classes(model)] for c in cases])
    kept = table[:, ~np.isnan(table).all(axis=0)]
    return float(np.nanmean(kept, axis=0).mean()) if kept.size else float("nan")


def spec_metrics(model: Model, cases: Sequence[ScoredCase], part: str) -> tuple[MetricSummary, ...]:
    """Return the summaries as they stand in a ModelSpec."""
    if part not in ("validation", "test"):
        raise ValueError(f"part must be validation or test, got {part!r}")
    return tuple(
        MetricSummary(
            metric=metric,
            part="test" if part == "test" else "validation",
            class_name=name,
            mean=_rounded(summary.mean),
            ci95=None
            if summary.ci95 is None
            else (round(summary.ci95[0], 4), round(summary.ci95[1], 4)),
            cases=summary.cases,
            excluded_empty=summary.excluded_empty,
        )
        for metric, by_class in summarise_cases(model, cases).items()
        for name, summary in by_class.items()
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def write_cases_csv(path: Path, model: Model, cases: Sequence[ScoredCase]) -> None:
    """Write one row per case and class. An empty cell means that both masks are empty there."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for case in cases:
            for index in scored_classes(model):
                score = case.scores[index]
                writer.writerow(
                    [
                        case.case.stem,
                        model.spec.class_names[index],
                        _cell(score.dice),
                        _cell(score.iou),
                        score.prediction_px,
                        score.truth_px,
                        case.height_px,
                        case.width_px,
                        int(case.tiled),
                    ]
                )


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"
