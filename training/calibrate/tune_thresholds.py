"""Choose the thresholds of ``contract/decision.py`` that give the highest mean Dice.

Class by class, the offset of its logit is moved over a grid while the others stand still, and the
Dice of every class in every image is told for all grid points at once from one histogram. Dice is
macro as everywhere here: the mean over images, then over classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.decision import Task
from training.calibrate.observe import Observed

# Offsets of a logit: probabilities from 0.047 to 0.953 in a two-class task.
GRID = np.linspace(-3.0, 3.0, 61)
ROUNDS = 3
# Below this, on the images it was chosen on, a gain is chance: the thresholds are left alone.
LEAST_GAIN = 1e-3
# Of points that are as good, the one nearest to no offset generalises best.
AS_GOOD = 1e-4


def tune_thresholds(
    observed: Sequence[Observed], task: Task, *, temperature: float = 1.0
) -> tuple[tuple[float, ...] | None, float, float]:
    """Return thresholds per class, or None where none is better, and Dice before and after.

    Args:
        observed: pixels of images that the net was not trained on.
        task: multiclass thresholds sum to 1.
        temperature: the thresholds are for probabilities of logits / temperature.
    """
    classes = len(observed[0].logits)
    offsets = np.zeros(classes)
    before = float(mean_dice(_dice_at(observed, task, 1.0 / temperature, offsets)))
    swept = range(classes) if task == "multilabel" else range(1, classes)
    for _ in range(1 if task == "multilabel" or classes == 2 else ROUNDS):
        moved = False
        for index in swept:
            scores = _sweep(observed, task, 1.0 / temperature, offsets, index)
            if np.isnan(scores).all():
                continue
            good = np.flatnonzero(scores >= np.nanmax(scores) - AS_GOOD)
            best = good[np.abs(GRID[good]).argmin()]
            moved |= bool(offsets[index] != GRID[best])
            offsets[index] = GRID[best]
        if not moved:
            break
    after = float(mean_dice(_dice_at(observed, task, 1.0 / temperature, offsets)))
    if not after - before >= LEAST_GAIN:
        return None, before, before
    if task == "multilabel":
        thresholds = 1 / (1 + np.exp(-offsets))
    else:
        thresholds = np.exp(offsets) / np.exp(offsets).sum()
    return tuple(round(float(t), 6) for t in thresholds), before, after


def mean_dice(dice_by_case: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over images (first axis), then over classes (last); NaN has no say."""
    counts = (~np.isnan(dice_by_case)).sum(axis=0)
    sums = np.nansum(dice_by_case, axis=0)
    by_class = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    scored = (~np.isnan(by_class)).sum(axis=-1)
    total = np.asarray(np.nansum(by_class, axis=-1))
    mean = np.full(total.shape, np.nan)
    np.divide(total, scored, out=mean, where=scored > 0)
    return mean


def _dice_at(
    observed: Sequence[Observed], task: Task, inverse: float, offsets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return Dice ``[cases, scored classes]`` at one setting."""
    rows = []
    for one in observed:
        scores = one.logits * inverse - offsets[:, None]
        if task == "multilabel":
            said, true = (scores > 0) & one.counted, (one.truth > 0) & one.counted
        else:
            best = scores.argmax(axis=0)
            indices = np.arange(1, len(offsets))[:, None]
            said = (best == indices) & one.counted
            true = (one.truth == indices) & one.counted
        rows.append(_dice((said & true).sum(axis=1), said.sum(axis=1), true.sum(axis=1)))
    return np.stack(rows)


def _sweep(
    observed: Sequence[Observed],
    task: Task,
    inverse: float,
    offsets: NDArray[np.float64],
    index: int,
) -> NDArray[np.float64]:
    """Return the mean Dice for every offset of class ``index`` in ``GRID``."""
    cases = []
    for one in observed:
        if task == "multilabel":
            keep = one.counted[index]
            lead = one.logits[index, keep] * inverse
            true = one.truth[index, keep] > 0
            cases.append(_above(lead, true)[:, None])
            continue
        scores = one.logits[:, one.counted] * inverse - offsets[:, None]
        truth = one.truth[one.counted]
        lead = scores[index] + offsets[index]
        scores[index] = -np.inf
        rival = scores.argmax(axis=0)
        lead = lead - scores.max(axis=0)
        cases.append(_against(lead, rival, truth, index=index, classes=len(offsets)))
    return mean_dice(np.stack(cases))


def _above(lead: NDArray[np.floating], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return Dice ``[grid]`` of ``lead > GRID[i]``."""
    places = np.searchsorted(GRID, lead, side="left")  # lead > GRID[i] where i < place
    said = _from_above(np.bincount(places, minlength=len(GRID) + 1))
    hit = _from_above(np.bincount(places[true], minlength=len(GRID) + 1))
    return _dice(hit, said, np.full(len(GRID), true.sum()))


def _against(
    lead: NDArray[np.floating],
    rival: NDArray[np.intp],
    truth: NDArray[np.uint8],
    *,
    index: int,
    classes: int,
) -> NDArray[np.float64]:
    """Return Dice ``[grid, classes - 1]``: class ``index`` where ``lead`` is above, else rival."""
    places = np.searchsorted(GRID, lead, side="left")
    columns = []
    for k in range(1, classes):
        if k == index:
            columns.append(_above(lead, truth == k))
            continue
        own = rival == k
        width = len(GRID) + 1
        said = np.bincount(places[own], minlength=width).cumsum()[:-1]  # place <= i
        hit = np.bincount(places[own & (truth == k)], minlength=width).cumsum()[:-1]
        columns.append(_dice(hit, said, np.full(len(GRID), (truth == k).sum())))
    return np.stack(columns, axis=1)


def _from_above(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each i the sum of counts at places beyond i."""
    beyond: NDArray[np.int64] = counts.sum() - counts.cumsum()[:-1]
    return beyond


def _dice(
    hit: NDArray[np.integer], said: NDArray[np.integer], true: NDArray[np.integer]
) -> NDArray[np.float64]:
    whole = (said + true).astype(np.float64)
    dice: NDArray[np.float64] = np.full(whole.shape, np.nan)
    np.divide(2.0 * hit, whole, out=dice, where=whole > 0)
    return dice
