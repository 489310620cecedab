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


def contact_sheet(model: Model, dataset: FolderDataset, cases: Sequence[ScoredCase]) -> Picture:
    """Return image, truth and answer of the worst, the median and the best cases."""
    chosen = _worst_median_best(model, cases)
    palette = model.spec.palette
    rows = []
    for case in chosen:
        picture = display_rgb(load_image(case.case, model.spec.channels))
        truth = load_mask(case.case, dataset.spec)
        flat = model.spec.task == "multiclass"
        answer = case.labels if flat else _flatten(case.labels)
        truth = truth if flat else _flatten(truth)
        colours = palette if flat else ((0, 0, 0), *palette)
        caption = f"{case.case.stem}  Dice {_case_dice(model, case):.3f}"
        rows.append(
            (caption, [picture, tint(picture, truth, colours), tint(picture, answer, colours)])
        )
    return side_by_side(rows, titles=["image", "truth", model.spec.name])


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
