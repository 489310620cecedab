"""How unsure a model says it is of an image, and whether that points to the bad ones.

Two figures per image, both means over its counted pixels, in nats (multilabel: over classes, too):

* entropy of the probabilities, which every file has: 0 where sure, ln K where it has no idea;
* disagreement of the members (``training/graph/disagree.py``), of files that give it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from contract.decision import Task

MEASURES = ("entropy", "disagreement")
# A rank correlation of three images is -1, 0.5 or 1 by chance.
LEAST_CASES = 5


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of a measure with 1 - Dice, over images.

    Attributes:
        rho: near 1 where the unsure images are the bad ones; None below 5 images, or where all
            have the same value.
        cases: images with both.
    """

    rho: float | None
    cases: int


def mean_entropy_nats(
    probabilities_khw: NDArray[np.float32], task: Task, counted: NDArray[np.bool_]
) -> float:
    """Return the mean entropy over counted pixels; NaN where none is.

    Args:
        probabilities_khw: ``[K, H, W]``.
        task: softmax over classes, or a sigmoid each.
        counted: ``[H, W]``; multilabel ``[K, H, W]``.
    """
    p = probabilities_khw
    if task == "multilabel":
        return mean_nats(_surprise(p) + _surprise(1 - p), counted)
    # One class after the other: K more planes of a large image need not be held.
    total = _surprise(p[0])
    for plane in p[1:]:
        total += _surprise(plane)
    return mean_nats(total, counted)


def mean_nats(nats: NDArray[np.float32], counted: NDArray[np.bool_]) -> float:
    """Return the mean over counted pixels; NaN where none is. Both have one shape."""
    return float(nats[counted].mean(dtype=np.float64)) if counted.any() else math.nan


def correlation_with_error(measure: Sequence[float], dice: Sequence[float]) -> Correlation:
    """Hold a measure against 1 - Dice of the same images; NaN on either side is left out."""
    pairs = np.array([measure, dice], dtype=np.float64)
    nats, scored = pairs[:, ~np.isnan(pairs).any(axis=0)]
    if nats.size < LEAST_CASES or np.ptp(nats) == 0 or np.ptp(scored) == 0:
        return Correlation(None, nats.size)
    return Correlation(float(spearmanr(nats, 1 - scored).statistic), nats.size)


def _surprise(p: NDArray[np.float32]) -> NDArray[np.float32]:
    tiny = np.finfo(np.float32).tiny
    nats: NDArray[np.float32] = -p * np.log(np.maximum(p, tiny))
    return nats
