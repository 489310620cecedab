"""Run a model file over a data set and score every case."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from training.calibrate.reliability import NOTHING, Reliability, reliability_of
from training.data.folder import IGNORE, Case, FolderDataset, load_image, load_mask
from training.score.rulers import Rulers
from training.score.uncertainty import MEASURES, mean_entropy_nats, mean_nats

METRICS = ("dice", "iou")
"""Computed where nothing else is asked for."""


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
        ruler: what its lengths are measured in.
        entropy_nats: mean over the counted pixels; NaN where it was not asked for.
        disagreement_nats: likewise; NaN, too, where the file does not give it.
        reliability: how often it is right by how sure it is; of no pixel where not asked for.
    """

    case: Case
    height_px: int
    width_px: int
    tiled: bool
    scores: tuple[ClassScore, ...]
    labels: np.ndarray
    values: tuple[Mapping[str, float], ...] = ()
    ruler: Ruler = field(default_factory=Ruler)
    entropy_nats: float = math.nan
    disagreement_nats: float = math.nan
    reliability: Reliability = NOTHING

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
    rulers: Rulers | None = None,
    uncertainty: bool = False,
) -> Iterator[ScoredCase]:
    """Segment and score the images named by ``stems``, one after the other.

    Args:
        model: the file.
        dataset: that has the images.
        stems: which ones.
        metrics: names, for all classes but the background, or by class index.
        rulers: what lengths are measured in; pixels without.
        uncertainty: also how unsure the model is, and how rightly, which takes the memory of
            probabilities.

    Raises:
        DataError: the data set's classes are not the model's.
    """
    rulers = rulers or Rulers()
    check_classes(model, dataset)
    if not isinstance(metrics, Mapping):
        metrics = dict.fromkeys(scored_classes(model), tuple(metrics))
    for case in dataset.select(stems):
        image = to_chw_float32(load_image(case, model.spec.channels))
        answer = model.segment(image, probabilities=uncertainty)
        truth, ruler = load_mask(case, dataset.spec), rulers.of(case.stem)
        counted = truth != IGNORE
        entropy = disagreement = math.nan
        reliability = NOTHING
        if answer.probabilities is not None:
            flat = answer.probabilities.reshape(len(answer.probabilities), -1)
            pixels = (*truth.shape[:-2], -1)
            reliability = reliability_of(
                flat, truth.reshape(pixels), counted.reshape(pixels), model.spec.task
            )
            entropy = mean_entropy_nats(answer.probabilities, model.spec.task, counted)
        if answer.disagreement is not None:
            disagreement = mean_nats(answer.disagreement, counted)
        measured = measure_labels(
            answer.labels,
            truth,
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
            ruler=ruler,
            entropy_nats=entropy,
            disagreement_nats=disagreement,
            reliability=reliability,
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

    A metric has those classes only for which it was computed. Where the data set has groups, the
    interval is over them.
    """
    groups = groups_of(cases)
    return {
        metric: {
            model.spec.class_names[index]: summarise(
                [case.value(metric, index) for case in cases], groups=groups, seed=seed
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


def groups_of(cases: Sequence[ScoredCase]) -> list[str | None]:
    """Return the group of each case: what must not be taken for independent."""
    return [case.case.group for case in cases]


def case_dice(model: Model, case: ScoredCase) -> float:
    """Return the mean Dice over the classes that truth or answer hold; NaN where none does."""
    values = np.array([case.scores[index].dice for index in scored_classes(model)])
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def uncertainty_of(case: ScoredCase) -> dict[str, float]:
    """Return each measure of uncertainty in nats, NaN where there is none."""
    return {measure: getattr(case, f"{measure}_nats") for measure in MEASURES}


def reliability_over(cases: Sequence[ScoredCase]) -> Reliability:
    """Return the counts of all cases together."""
    return sum((case.reliability for case in cases), start=NOTHING)


def mean_dice(model: Model, cases: Sequence[ScoredCase]) -> float:
    """Mean over cases, then over classes; classes that no case holds are left out."""
    table = np.array([[c.scores[i].dice for i in scored_classes(model)] for c in cases])
    kept = table[:, ~np.isnan(table).all(axis=0)]
    return float(np.nanmean(kept, axis=0).mean()) if kept.size else float("nan")


def spec_metrics(model: Model, cases: Sequence[ScoredCase], part: str) -> tuple[MetricSummary, ...]:
    """Return the summaries as they stand in a ModelSpec; lengths have their unit in the name."""
    if part not in ("validation", "test"):
        raise ValueError(f"part must be validation or test, got {part!r}")
    return tuple(
        MetricSummary(
            metric=column_name(metric, cases[0].ruler.unit),
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
    """Write one row per case and class; lengths have their unit in the column's name.

    Uncertainty, spacing and group are the image's, the same in all of its rows; their columns are
    there where they are known.

    An empty cell is no score, because both masks are empty (``both_empty`` 1) or the truth is
    (recall), or because the metric was not computed for this class.
    """
    metrics = list(computed(model, cases))
    unit = cases[0].ruler.unit if cases else Ruler().unit
    of_image = {
        name: [_of_image(case)[name] for case in cases]
        for name in (_of_image(cases[0]) if cases else ())
    }
    known = [name for name, cells in of_image.items() if any(cells)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                *("stem", "class"),
                *(column_name(metric, unit) for metric in metrics),
                *("both_empty", "one_empty", "prediction_px", "truth_px"),
                *("height_px", "width_px", "tiled"),
                *known,
            ]
        )
        for place, case in enumerate(cases):
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
                        *(of_image[name][place] for name in known),
                    ]
                )


def write_cases_json(path: Path, model: Model, cases: Sequence[ScoredCase]) -> None:
    """Write a list of cases, each with its classes; no score is null, not computed is not there."""
    rows: list[dict[str, Any]] = [
        {
            "stem": case.case.stem,
            "height_px": case.height_px,
            "width_px": case.width_px,
            "tiled": case.tiled,
            "group": case.case.group,
            "spacing_mm": case.ruler.spacing_mm,
            **{
                f"{measure}_nats": round(nats, 8)
                for measure, nats in uncertainty_of(case).items()
                if not math.isnan(nats)
            },
            "classes": {
                model.spec.class_names[index]: {
                    **{
                        column_name(metric, case.ruler.unit): None
                        if math.isnan(value)
                        else round(value, 6)
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


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def column_name(metric: str, unit: str = "px") -> str:
    """Return e.g. ``dice``, and ``hd95_px`` or ``hd95_mm`` for a length."""
    return f"{metric}_{unit}" if ALL_METRICS[metric].is_length else metric


def _of_image(case: ScoredCase) -> dict[str, str]:
    """Return cells that are the same for all classes, empty where unknown."""
    row_mm, column_mm = case.ruler.spacing_mm or ("", "")
    return {
        **{
            f"{measure}_nats": "" if math.isnan(nats) else f"{nats:.8f}"
            for measure, nats in uncertainty_of(case).items()
        },
        "row_mm": str(row_mm),
        "column_mm": str(column_mm),
        "group": case.case.group or "",
    }


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"
