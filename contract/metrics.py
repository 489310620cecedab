"""Overlap of one case's prediction with its truth, class by class.

The empty policy is explicit, because libraries differ and the same predictions were scored 0.36
to 0.98 by them: a class that is in neither has no score (NaN, excluded from means and counted), a
class that is in only one of the two scores 0.

    Dice = 2 |P ∩ T| / (|P| + |T|)        IoU = |P ∩ T| / |P ∪ T|
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contract.bootstrap import mean_ci95
from contract.errors import DataError


@dataclass(frozen=True)
class ClassScore:
    """One class in one case; counts in pixels (voxels), ignored ones left out.

    Attributes:
        class_index: place in ``ModelSpec.classes``.
        prediction_px: |P|.
        truth_px: |T|.
        overlap_px: |P ∩ T|.
    """

    class_index: int
    prediction_px: int
    truth_px: int
    overlap_px: int

    @property
    def empty(self) -> bool:
        """Whether the class is in neither the prediction nor the truth."""
        return self.prediction_px == 0 and self.truth_px == 0

    @property
    def dice(self) -> float:
        """Dice coefficient, or NaN where the class is in neither."""
        return _ratio(2 * self.overlap_px, self.prediction_px + self.truth_px)

    @property
    def iou(self) -> float:
        """Intersection over union (Jaccard), or NaN where the class is in neither."""
        return _ratio(self.overlap_px, self.prediction_px + self.truth_px - self.overlap_px)

    @property
    def precision(self) -> float:
        """Share of the prediction that is true; 0 where nothing of a true class is predicted.

        Were it undefined there, a model would gain by predicting nothing on hard cases.
        """
        return math.nan if self.empty else _ratio(self.overlap_px, self.prediction_px or 1)

    @property
    def recall(self) -> float:
        """Share of the truth that is predicted, or NaN where there is no truth to find."""
        return _ratio(self.overlap_px, self.truth_px)


@dataclass(frozen=True)
class Summary:
    """Mean over cases of one metric.

    Attributes:
        mean: None where no case has a score.
        ci95: bootstrap 95 % interval of the mean; None below two cases (groups), which say
            nothing of the spread.
        cases: cases with a score.
        excluded_empty: cases without one (NaN).
        groups: of the cases with a score; None where each case stands for itself.
    """

    mean: float | None
    ci95: tuple[float, float] | None
    cases: int
    excluded_empty: int
    groups: int | None = None


def case_scores(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    *,
    n_classes: int,
    ignore: int | None = None,
) -> list[ClassScore]:
    """Score each class of one case, the background (index 0) included.

    Args:
        prediction: class indices, any shape.
        truth: class indices of the same shape.
        n_classes: K; indices run from 0 to K - 1.
        ignore: a value of ``truth`` whose pixels count for nothing.

    Returns:
        K scores in order of the class index.

    Raises:
        DataError: the shapes differ, or a value is no class index.
    """
    if prediction.shape != truth.shape:
        raise DataError(
            f"the prediction is {list(prediction.shape)}, the truth {list(truth.shape)}; "
            "bring the mask to its image's size"
        )
    predicted, true = prediction.ravel(), truth.ravel()
    if ignore is not None:
        counted = true != ignore
        predicted, true = predicted[counted], true[counted]
    for what, values in (("prediction", predicted), ("truth", true)):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < n_classes:
            raise DataError(
                f"the {what} holds values {int(values.min())} to {int(values.max())}; class "
                f"indices run from 0 to {n_classes - 1}. Map mask values by mask_map, or name "
                "one to ignore"
            )
    pairs = true.astype(np.int64) * n_classes + predicted
    confusion = np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)
    return [
        ClassScore(
            class_index=index,
            prediction_px=int(confusion[:, index].sum()),
            truth_px=int(confusion[index].sum()),
            overlap_px=int(confusion[index, index]),
        )
        for index in range(n_classes)
    ]


def multilabel_case_scores(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    *,
    ignore: int | None = None,
) -> list[ClassScore]:
    """Score each class of one case whose classes may overlap.

    Args:
        prediction: 0/1 ``[K, ...]``.
        truth: 0/1 of the same shape.
        ignore: a value of ``truth`` whose pixels count for nothing, class by class.

    Raises:
        DataError: the shapes differ, or a value is neither 0, 1 nor ``ignore``.
    """
    if prediction.shape != truth.shape:
        raise DataError(
            f"the prediction is {list(prediction.shape)}, the truth {list(truth.shape)}; "
            "give both as [K, H, W]"
        )
    scores = []
    for index, (predicted, true) in enumerate(zip(prediction, truth, strict=True)):
        present = case_scores(predicted, true, n_classes=2, ignore=ignore)[1]
        scores.append(
            ClassScore(
                class_index=index,
                prediction_px=present.prediction_px,
                truth_px=present.truth_px,
                overlap_px=present.overlap_px,
            )
        )
    return scores


def score_labels(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    *,
    task: Literal["multiclass", "multilabel"],
    n_classes: int,
    ignore: int | None = None,
) -> list[ClassScore]:
    """Score one case by its task: ``case_scores`` or ``multilabel_case_scores``."""
    if task == "multilabel":
        return multilabel_case_scores(prediction, truth, ignore=ignore)
    return case_scores(prediction, truth, n_classes=n_classes, ignore=ignore)


def summarise(
    values: Iterable[float],
    *,
    groups: Sequence[str | None] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Summary:
    """Return the mean over cases with its bootstrap interval.

    Args:
        values: one per case; NaN means that the case has no score.
        groups: the group of each case (patient, slide), whose cases are drawn together; a case of
            group None stands for itself. None, or no group at all: so do all.
        seed: of the resampling.
        resamples: bootstrap samples.

    Raises:
        ValueError: not as many groups as values.
    """
    per_case = np.fromiter(values, dtype=np.float64)
    has_score = ~np.isnan(per_case)
    scored = per_case[has_score]
    of_group = group_numbers(groups, per_case.size)
    if of_group is not None:
        of_group = of_group[has_score]
    independent = scored.size if of_group is None else np.unique(of_group).size
    return Summary(
        mean=float(scored.mean()) if scored.size else None,
        ci95=mean_ci95(scored, groups=of_group, seed=seed, resamples=resamples)
        if independent > 1
        else None,
        cases=scored.size,
        excluded_empty=per_case.size - scored.size,
        groups=None if of_group is None else independent,
    )


def group_numbers(
    groups: Sequence[str | None] | None, cases: int
) -> NDArray[np.integer[Any]] | None:
    """Return a number per case, equal within a group; None where no case has a group.

    Raises:
        ValueError: not one entry per case.
    """
    if groups is None or all(group is None for group in groups):
        return None
    if len(groups) != cases:
        raise ValueError(f"{len(groups)} groups for {cases} cases; give one per case, or None")
    known: dict[str | int, int] = {}
    # A case without a group is a group of its own, as in a split.
    keys = [place if group is None else group for place, group in enumerate(groups)]
    return np.array([known.setdefault(key, len(known)) for key in keys])


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
