"""Check by running that a model answers as the contract says, whatever the size and the batch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.decision import labels_of, tie_margin
from contract.errors import ModelBroken
from contract.golden import OUTPUTS, golden_input
from contract.model import Model

SIZES_HW = ((1, 1), (1, 37), (33, 47), (64, 64))
"""Below, off and on the divisors that nets have."""

# Labels may come from logits, so probabilities that round to a tie tell nothing.
TIE = 1e-3
SUM_TOLERANCE = 1e-3


def check_answers(model: Model, *, intensity_range: tuple[float, float], seed: int = 0) -> None:
    """Run made pictures of several sizes, alone and in a batch of two.

    Raises:
        ModelBroken: an answer has not the image's size, probabilities that are none, labels that
            are not the best class, or depends on the batch it came in.
    """
    for size_hw in SIZES_HW:
        shape_chw = (model.spec.channels, *size_hw)
        first, second = (golden_input(seed + i, shape_chw, intensity_range)[None] for i in range(2))
        alone = model.run(first, outputs=OUTPUTS)
        both = model.run(np.concatenate([first, second]), outputs=OUTPUTS)
        _check_one(model, alone, size_hw)
        _check_one(model, both, size_hw)
        margin = tie_margin(alone["probabilities"][0], model.spec.task, model.spec.thresholds_prob)
        changed = (alone["labels"][0] != both["labels"][0]) & (margin > TIE)
        if changed.any():
            raise ModelBroken(
                f"{model.path}: at size {list(size_hw)} {int(changed.sum())} labels depend on "
                "the batch that the image came in. Reduce statistics per image, in float64"
            )


def _check_one(model: Model, answer: dict[str, NDArray[Any]], size_hw: tuple[int, int]) -> None:
    spec, source = model.spec, f"{model.path} at size {list(size_hw)}"
    labels, probabilities = answer["labels"], answer["probabilities"]
    if not (np.isfinite(probabilities).all() and _within(probabilities, 0, 1)):
        raise ModelBroken(
            f"{source}: probabilities run from {probabilities.min():.3g} to "
            f"{probabilities.max():.3g}; are they logits? Put softmax or sigmoid in the graph"
        )
    if spec.task == "multiclass" and not _within(probabilities.sum(axis=1), 1, 1):
        raise ModelBroken(
            f"{source}: probabilities do not sum to 1 over the {len(spec.classes)} classes. "
            "Classes that may overlap are task 'multilabel'; a single foreground channel needs "
            "the background's beside it"
        )
    for one, these in zip(probabilities, labels, strict=True):
        best = labels_of(one, spec.task, spec.thresholds_prob)
        if ((these != best) & (tie_margin(one, spec.task, spec.thresholds_prob) > TIE)).any():
            raise ModelBroken(
                f"{source}: labels are not the classes of highest probability; labels hold "
                f"{np.unique(these).tolist()}. They must be class indices, not 0/255"
            )


def _within(values: NDArray[Any], low: float, high: float) -> bool:
    return bool((values >= low - SUM_TOLERANCE).all() and (values <= high + SUM_TOLERANCE).all())
