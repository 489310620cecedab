"""Every metric of one class in one case, and what an empty mask scores.

The empty policy, the same for all metrics, because libraries differ in it most of all:

* class in neither mask: NaN, left out of means and counted;
* class in one of the two only: the worst value, which is 0 for shares and the image's diagonal
  for distances, and the case is flagged (``ClassMeasures.one_empty``). One exception: ``recall``
  is NaN where the truth is empty, as there was nothing to find.

Pixels that the truth says to ignore are taken out of both masks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import DataError
from contract.metrics import ClassScore, score_labels
from contract.objects import object_f1
from contract.skeleton import cl_dice
from contract.surface import Mask, OutlineDistances, outline_distances, surface_dice

# Of pixels, where no spacing is known; about what two people's outlines differ by.
DEFAULT_TOLERANCE_PX = 2.0


@dataclass(frozen=True)
class Ruler:
    """What lengths are measured in.

    Attributes:
        spacing_mm: distance of neighbouring pixels along each axis (row, column), the same for
            all cases; None: lengths are in pixels.
        tolerance: of NSD, in the unit of lengths; None: two pixels (of the coarser axis).
    """

    spacing_mm: tuple[float, ...] | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that measure nothing."""
        if self.spacing_mm is not None and not all(
            math.isfinite(step) and step > 0 for step in self.spacing_mm
        ):
            raise DataError(f"spacing must be millimetres above 0, got {list(self.spacing_mm)}")
        if self.tolerance is not None and not (
            math.isfinite(self.tolerance) and self.tolerance >= 0
        ):
            raise DataError(f"the tolerance of NSD must be 0 or more, got {self.tolerance}")

    @property
    def unit(self) -> Literal["mm", "px"]:
        """Of lengths."""
        return "px" if self.spacing_mm is None else "mm"

    @property
    def nsd_tolerance(self) -> float:
        """The tolerance that is used, in ``unit``."""
        if self.tolerance is not None:
            return self.tolerance
        return DEFAULT_TOLERANCE_PX * max(self.spacing_mm or (1.0,))

    def spacing(self, shape: tuple[int, ...]) -> tuple[float, ...]:
        """Return the step along each axis of a mask.

        Raises:
            DataError: not one number per axis.
        """
        if self.spacing_mm is None:
            return (1.0,) * len(shape)
        if len(self.spacing_mm) != len(shape):
            raise DataError(
                f"the spacing has {len(self.spacing_mm)} numbers, {list(self.spacing_mm)}, but "
                f"the masks have {len(shape)} axes; give one per axis, rows first"
            )
        return self.spacing_mm

    def diagonal(self, shape: tuple[int, ...]) -> float:
        """Return the image's diagonal, which no distance within it reaches."""
        return math.hypot(*(n * step for n, step in zip(shape, self.spacing(shape), strict=True)))


@dataclass(frozen=True, eq=False)
class ClassPair:
    """One class in one case: where it was predicted and where it is, ignored pixels taken out."""

    prediction: Mask
    truth: Mask
    counts: ClassScore
    ruler: Ruler

    @property
    def spacing(self) -> tuple[float, ...]:
        """Step along each axis."""
        return self.ruler.spacing(self.truth.shape)

    @cached_property
    def distances(self) -> OutlineDistances:
        """Shared by HD95 and ASSD."""
        return outline_distances(self.prediction, self.truth, self.spacing)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        value: of a pair in which both masks hold a pixel.
        is_length: a distance, better small; else a share from 0 to 1, better large.
        needs_truth: says nothing where the truth is empty, whatever was predicted.
    """

    value: Callable[[ClassPair], float]
    is_length: bool = False
    needs_truth: bool = False


METRICS: dict[str, Metric] = {
    "dice": Metric(lambda pair: pair.counts.dice),
    "iou": Metric(lambda pair: pair.counts.iou),
    "precision": Metric(lambda pair: pair.counts.precision),
    "recall": Metric(lambda pair: pair.counts.recall, needs_truth=True),
    "hd95": Metric(lambda pair: pair.distances.hd95, is_length=True),
    "assd": Metric(lambda pair: pair.distances.assd, is_length=True),
    "nsd": Metric(
        lambda pair: surface_dice(
            pair.prediction, pair.truth, pair.spacing, pair.ruler.nsd_tolerance
        )
    ),
    "cldice": Metric(lambda pair: cl_dice(pair.prediction, pair.truth)),
    "object_f1": Metric(lambda pair: object_f1(pair.prediction, pair.truth)),
}


@dataclass(frozen=True)
class ClassMeasures:
    """One class in one case.

    Attributes:
        counts: pixels; ``counts.class_index`` is the class.
        values: metric name to value, NaN by the empty policy; those asked for, in their order.
    """

    counts: ClassScore
    values: Mapping[str, float]

    @property
    def one_empty(self) -> bool:
        """Whether the class is in just one of prediction and truth: the values are the worst."""
        return (self.counts.prediction_px == 0) != (self.counts.truth_px == 0)


def measure_labels(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    *,
    task: Literal["multiclass", "multilabel"],
    n_classes: int,
    metrics: Sequence[str] | Mapping[int, Sequence[str]],
    ruler: Ruler | None = None,
    ignore: int | None = None,
) -> list[ClassMeasures]:
    """Measure each class of one case.

    Args:
        prediction: class indices ``[H, W]``; multilabel 0/1 ``[K, H, W]``.
        truth: of the same shape.
        task: which of the two.
        n_classes: K.
        metrics: names of ``METRICS`` for all classes, or by class index; a class that is not
            named has no values, only counts.
        ruler: spacing and tolerance; without it lengths are in pixels.
        ignore: a value of ``truth`` whose pixels count for nothing.

    Returns:
        K measures in order of the class index.

    Raises:
        DataError: shapes, values or spacing do not fit.
    """
    ruler = ruler or Ruler()
    scores = score_labels(prediction, truth, task=task, n_classes=n_classes, ignore=ignore)
    kept = None if ignore is None else truth != ignore
    measured = []
    for score in scores:
        index = score.class_index
        names = metrics.get(index, ()) if isinstance(metrics, Mapping) else metrics
        if task == "multilabel":
            predicted, true = prediction[index] == 1, truth[index] == 1
            if kept is not None:
                predicted &= kept[index]
        else:
            predicted, true = prediction == index, truth == index
            if kept is not None:
                predicted &= kept
        pair = ClassPair(prediction=predicted, truth=true, counts=score, ruler=ruler)
        values = {name: value_of(METRICS[name], pair) for name in names}
        measured.append(ClassMeasures(counts=score, values=values))
    return measured


def value_of(metric: Metric, pair: ClassPair) -> float:
    """Return the metric's value under the empty policy."""
    counts = pair.counts
    if counts.empty or (metric.needs_truth and counts.truth_px == 0):
        return math.nan
    if counts.prediction_px == 0 or counts.truth_px == 0:
        return pair.ruler.diagonal(pair.truth.shape) if metric.is_length else 0.0
    return metric.value(pair)
