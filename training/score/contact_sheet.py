"""The worst, the median and the best cases of an evaluation in one picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.model import Model
from imaging.overlay import display_rgb
from training.data.folder import FolderDataset, load_image, load_mask
from training.score.cases import ScoredCase, scored_classes
from training.score.pictures import Picture, side_by_side, tint

SHEET_CASES = 12


def contact_sheet(dataset: FolderDataset, *scored: tuple[Model, Sequence[ScoredCase]]) -> Picture:
    """Return image, truth and each model's answer of the worst, median and best cases.

    Args:
        dataset: that was scored.
        scored: each model with its cases, all in the same order; the first one ranks them.
    """
    first, cases = scored[0]
    flat = first.spec.task == "multiclass"
    colours = first.spec.palette if flat else ((0, 0, 0), *first.spec.palette)
    rows = []
    for case in _worst_median_best(first, cases):
        picture = display_rgb(load_image(case.case, first.spec.channels))
        same = [next(c for c in others if c.case.stem == case.case.stem) for _, others in scored]
        masks = [load_mask(case.case, dataset.spec), *(found.labels for found in same)]
        drawn = [tint(picture, mask if flat else _flatten(mask), colours) for mask in masks]
        dice = ", ".join(
            f"{_case_dice(model, found):.3f}"
            for (model, _), found in zip(scored, same, strict=True)
        )
        rows.append((f"{case.case.stem}  Dice {dice}", [picture, *drawn]))
    titles = ["image", "truth", *(model.spec.name for model, _ in scored)]
    return side_by_side(rows, titles=titles)


def _case_dice(model: Model, case: ScoredCase) -> float:
    values = [case.scores[index].dice for index in scored_classes(model)]
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _worst_median_best(model: Model, cases: Sequence[ScoredCase]) -> list[ScoredCase]:
    ranked = sorted(cases, key=lambda case: (_case_dice(model, case), case.case.stem))
    if len(ranked) <= SHEET_CASES:
        return ranked
    third = SHEET_CASES // 3
    middle = len(ranked) // 2 - third // 2
    return [*ranked[:third], *ranked[middle : middle + third], *ranked[-third:]]


def _flatten(labels_khw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Show overlapping classes as one picture: the last class on top."""
    flat = np.zeros(labels_khw.shape[1:], dtype=np.uint8)
    for index, plane in enumerate(labels_khw, start=1):
        flat[plane == 1] = index
    return flat
