"""How far each pixel lies from the true boundary, and what an answer does at each distance.

The distance of a pixel is that of its centre to the nearest pixel centre on the other side: the
two pixels that a boundary runs between have distance 1 px. Ignored pixels stand on neither side.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contract.surface import Mask, Spacing

# Multiples of a pixel (of its longer side, where it is not square); each bin holds its upper edge.
BIN_EDGES_PX = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, np.inf)
# Distances come out of square roots; one that equals an edge must not pass it by rounding.
ROUNDING = 1e-6

Side = Literal["inside", "outside"]


def signed_distance(truth: Mask, counted: Mask, spacing: Spacing) -> NDArray[np.float64]:
    """Return the distance to the boundary of a class, above 0 inside and below 0 outside.

    Args:
        truth: where the class is, ``[H, W]``.
        counted: False where the truth is not known.
        spacing: (row, column), in the unit that the distances are wanted in.

    Returns:
        ``[H, W]``; infinite where there is no other side, NaN where nothing is counted.
    """
    inside, outside = truth & counted, ~truth & counted
    signed = np.full(truth.shape, np.nan)
    for own, other, sign in ((inside, outside, 1.0), (outside, inside, -1.0)):
        if not other.any():
            signed[own] = sign * np.inf
        elif own.any():
            apart = ndimage.distance_transform_edt(~other, sampling=spacing)
            signed[own] = sign * apart[own]
    return signed


@dataclass(frozen=True)
class Band:
    """The pixels of one side between two distances.

    Attributes:
        side: inside the class or outside.
        above: distance that they are above, in the unit of the distances.
        up_to: distance that they reach at most; infinite for the last band.
        pixels: how many there are.
        errors: how many of them are answered wrongly: missed inside, made up outside.
    """

    side: Side
    above: float
    up_to: float
    pixels: int
    errors: int


def bands_of(
    distance: NDArray[np.float64], answer: Mask, edges: tuple[float, ...] = BIN_EDGES_PX
) -> list[Band]:
    """Count pixels and errors of one class in bands: all inside ones, then all outside ones.

    Args:
        distance: from ``signed_distance``.
        answer: where the class was answered, ``[H, W]``.
        edges: from 0 up, the last one infinite.
    """
    bands = []
    for side, sign in (("inside", 1.0), ("outside", -1.0)):
        away = sign * distance
        with np.errstate(invalid="ignore"):
            of_side = away > 0  # NaN is on neither side
        wrong = of_side & (answer != (sign > 0))
        # side="left": a distance that equals an edge belongs to the band that ends there.
        steps = np.array(edges[1:-1]) * (1 + ROUNDING)
        counts, errors = (
            np.bincount(np.searchsorted(steps, away[chosen]), minlength=len(steps) + 1)
            for chosen in (of_side, wrong)
        )
        for (above, up_to), n, w in zip(pairwise(edges), counts, errors, strict=True):
            bands.append(Band(side, above, up_to, int(n), int(w)))  # type: ignore[arg-type]
    return bands


def dice_of(bands: list[Band]) -> float:
    """Return Dice over the pixels of ``bands``: 2 TP / (2 TP + FN + FP); NaN where all are 0."""
    found = sum(b.pixels - b.errors for b in bands if b.side == "inside")
    wrong = sum(b.errors for b in bands)
    return 2 * found / (2 * found + wrong) if found or wrong else np.nan


def error_rate(bands: list[Band]) -> float:
    """Return the share of the pixels of ``bands`` that are wrong; NaN where there is none."""
    pixels = sum(b.pixels for b in bands)
    return sum(b.errors for b in bands) / pixels if pixels else np.nan
