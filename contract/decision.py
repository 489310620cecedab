"""From probabilities to labels, and how close a call each label was.

Without thresholds a pixel is the class of the highest probability (multilabel: every class from
0.5 on). With ``thresholds_prob`` t, one per class, it is

    multiclass   argmax_k p_k / t_k      (two classes: class 1 where p_1 > t_1, since t_0 = 1 - t_1)
    multilabel   p_k >= t_k

which is the Bayes decision where missing class k costs 1 / t_k (Elkan 2001). Equal thresholds
change nothing.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["multiclass", "multilabel"]


def labels_of(
    probabilities_khw: NDArray[np.float32],
    task: Task,
    thresholds_prob: Sequence[float] | None = None,
) -> NDArray[np.uint8]:
    """Return class indices ``[H, W]``, or 0/1 ``[K, H, W]`` for ``multilabel``.

    The lowest class index wins a tie; a multilabel class is set from its threshold on.
    """
    if task == "multilabel":
        present: NDArray[np.bool_] = probabilities_khw >= _column(thresholds_prob, 0.5)
        return present.astype(np.uint8)
    scores = _scores(probabilities_khw, thresholds_prob)
    # For two classes, comparing is 80 times as fast as argmax.
    labels: NDArray[Any] = scores[1] > scores[0] if len(scores) == 2 else scores.argmax(axis=0)
    return labels.astype(np.uint8)


def tie_margin(
    probabilities: NDArray[np.float32],
    task: Task,
    thresholds_prob: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Return how clear each label is: near 0, rounding may decide either way.

    Args:
        probabilities: ``[..., K, H, W]``.
        task: multilabel compares each class with its absence, multiclass the two best.
        thresholds_prob: one per class, as in the spec.

    Returns:
        ``[..., H, W]`` (multilabel ``[..., K, H, W]``): the distance between the two best classes
        without thresholds, never more than that of the probabilities with them.
    """
    if task == "multilabel":
        apart: NDArray[np.float32] = np.abs(2 * (probabilities - _column(thresholds_prob, 0.5)))
        return apart
    scores = np.moveaxis(_scores(probabilities, thresholds_prob), -3, 0)
    second, best = np.partition(scores, -2, axis=0)[-2:]
    margin: NDArray[np.float32] = best - second
    return margin


def _scores(
    probabilities: NDArray[np.float32], thresholds_prob: Sequence[float] | None
) -> NDArray[np.float32]:
    if thresholds_prob is None:
        return probabilities
    # Scaled so that no factor is above 1: an error of the probabilities is never enlarged.
    weights: NDArray[np.float32] = min(thresholds_prob) / _column(thresholds_prob, 0.5)
    return probabilities * weights


def _column(thresholds_prob: Sequence[float] | None, default: float) -> NDArray[np.float32]:
    given = [default] if thresholds_prob is None else thresholds_prob
    return np.array(given, dtype=np.float32)[:, None, None]
