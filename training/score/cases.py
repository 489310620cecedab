"""Run a model file over a data set and score every case."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contract.errors import DataError
from contract.measures import METRICS as ALL_METRICS
from contract.measures import Ruler, measure_labels
from contract.metrics import ClassScore, Summary, summarise
from contract.model import Model
from contract.spec import MetricSummary
from imaging.channels import to_chw_float32
from training.data.folder import IGNORE, Case, FolderDataset, load_image, load_mask

METRICS = ("dice", "iou")
"""Computed where nothing else is asked for, and kept in a model's spec."""


@dataclass(frozen=True)
class ScoredCase:
    """One image, scored.

    Attributes:
        case: the image.
        height_px: of the image.
        width_px: of the image.
        tiled: it was too large to be taken whole.
        scores: counts of pixels by class index.
        labels: what the file answered.
        values: by class index, metric name to value; empty for a class that is not reported.
    """

    case: Case
    height_px: int
    width_px: int
    tiled: bool
    scores: tuple[ClassScore, ...]
    labels: np.ndarray
    values: tuple[Mapping[str, float], ...] = ()

    def value(self, metric: str, index: int) -> float:
        """Return the metric of a class, NaN where there is no score."""
        if metric in METRICS:
            overlap: float = getattr(self.scores[index], metric)
            return overlap
        return self.values[index][metric]

    def one_empty(self, index: int) -> bool:
        """Whether the class is in just one of answer and truth, so that its scores are worst."""
        score = self.scores[index]
        return (score.prediction_px == 0) != (score.truth_px == 0)


def score_cases(
    model: Model,
    dataset: FolderDataset,
    stems: Sequence[str],
    *,
    metrics: Sequence[str] | Mapping[int, Sequence[str]] = METRICS,
    ruler: Ruler | None = None,
) -> Iterator[ScoredCase]:
    """Segment and score the images named by ``stems``, one after the other.

    Args:
        model: the file.
        dataset: that has the images.
        stems: which ones.
        metrics: names, for all classes but the background, or by class index.
        ruler: what lengths are measured in; pixels without one.

    Raises:
        DataError: the data set's classes are not the model's.
    """
    check_classes(model, dataset)
    if not isinstance(metrics, Mapping):
        metrics = dict.fromkeys(scored_classes(model), tuple(metrics))
    for case in dataset.select(stems):
        image = to_chw_float32(load_image(case, model.spec.channels))
        answer = model.segment(image)
        measured = measure_labels(
            answer.labels,
            load_mask(case, dataset.spec),
            task=model.spec.task,
            n_classes=len(model.spec.classes),
            metrics=metrics,
            ruler=ruler,
            ignore=IGNORE,
        )
        yield ScoredCase(
            case=case,
            height_px=image.shape[1],
            width_px=image.shape[2],
            tiled=answer.tiled,
            scores=tuple(found.counts for found in measured),
            labels=answer.labels,
            values=tuple(found.values for found in measured),
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
    """Return metric -> class name -> mean over cases with its bootstrap interval.

    A metric has those classes only for which it was computed.
    """
    return {
        metric: {
            model.spec.class_names[index]: summarise(
                [case.value(metric, index) for case in cases], seed=seed
            )
            for index in classes
        }
        for metric, classes in computed(model, cases).items()
    }


def computed(model: Model, cases: Sequence[ScoredCase]) -> dict[str, list[int]]:
    """Return each metric that was computed, with the indices of the classes that have it."""
    found = {
        metric: [i for i in scored_classes(model) if all(metric in c.values[i] for c in cases)]
        for metric in ALL_METRICS
    }
    return {metric: classes for metric, classes in found.items() if classes}


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
        if metric in METRICS
        for name, summary in by_class.items()
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def write_cases_csv(
    path: Path, model: Model, cases: Sequence[ScoredCase], *, ruler: Ruler | None = None
) -> None:
    """Write one row per case and class; lengths have their unit in the column's name.

    An empty cell is no score, because both masks are empty (``both_empty`` 1) or the truth is
    (recall), or because the metric was not computed for this class.
    """
    metrics = list(computed(model, cases))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                *("stem", "class"),
                *(column_name(metric, ruler) for metric in metrics),
                *("both_empty", "one_empty", "prediction_px", "truth_px"),
                *("height_px", "width_px", "tiled"),
            ]
        )
        for case in cases:
            for index in scored_classes(model):
                score, values = case.scores[index], case.values[index]
                writer.writerow(
                    [
                        case.case.stem,
                        model.spec.class_names[index],
                        *(_cell(values.get(metric, math.nan)) for metric in metrics),
                        int(score.empty),
                        int(case.one_empty(index)),
                        score.prediction_px,
                        score.truth_px,
                        case.height_px,
                        case.width_px,
                        int(case.tiled),
                    ]
                )


def write_cases_json(
    path: Path, model: Model, cases: Sequence[ScoredCase], *, ruler: Ruler | None = None
) -> None:
    """Write a list of cases, each with its classes; no score is null, not computed is not there."""
    rows: list[dict[str, Any]] = [
        {
            "stem": case.case.stem,
            "height_px": case.height_px,
            "width_px": case.width_px,
            "tiled": case.tiled,
            "classes": {
                model.spec.class_names[index]: {
                    **{
                        column_name(metric, ruler): None if math.isnan(value) else round(value, 6)
                        for metric, value in case.values[index].items()
                    },
                    "both_empty": case.scores[index].empty,
                    "one_empty": case.one_empty(index),
                    "prediction_px": case.scores[index].prediction_px,
                    "truth_px": case.scores[index].truth_px,
                }
                for index in scored_classes(model)
            },
        }
        for case in cases
    ]
    path.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def column_name(metric: str, ruler: Ruler | None) -> str:
    """Return e.g. ``dice``, and ``hd95_px`` or ``hd95_mm`` for a length."""
    return f"{metric}_{(ruler or Ruler()).unit}" if ALL_METRICS[metric].is_length else metric


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"
