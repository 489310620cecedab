"""Which objects were found and which were made up, by their size.

An object is a connected piece of one class (8 neighbours). It was found where the answer has the
same class on at least half of its pixels; an answered object is false where the truth has its
class on less than half. Touching objects count as one, in truth and answer alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.report.case_picture import plane_of

COVERED = 0.5
MOST_BINS = 5
FEWEST_PER_BIN = 8


@dataclass(frozen=True)
class Objects:
    """Objects of one mask: size and the share that the other mask covers.

    Attributes:
        area_px: pixels of each object.
        covered: share of each object's pixels that has its class in the other mask.
    """

    area_px: NDArray[np.int64]
    covered: NDArray[np.float64]


@dataclass(frozen=True)
class SizeBin:
    """Objects between two sizes.

    Attributes:
        area_px: least and largest area in the bin.
        objects: how many.
        covered: how many of them the other mask covers by half or more.
        interval: Wilson's 95 % interval of the share of those.
    """

    area_px: tuple[int, int]
    objects: int
    covered: int
    interval: tuple[float, float]


def objects_of(
    mask: NDArray[np.uint8], other: NDArray[np.uint8], index: int, *, counted: NDArray[np.bool_]
) -> Objects:
    """Return the objects of class ``index`` of ``mask``, held against ``other``.

    Args:
        mask: class indices [H, W] or 0/1 [K, H, W].
        other: of the same shape.
        index: the class.
        counted: [H, W]; objects that touch a pixel that does not count are left out, because
            nobody knows how large they are.
    """
    inside, same = plane_of(mask, index), plane_of(other, index)
    n, pieces, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    hit = np.bincount(pieces[same], minlength=n)
    whole = np.bincount(pieces[~counted], minlength=n) == 0
    whole[0] = False  # what is outside of all objects
    return Objects(area[whole], hit[whole] / area[whole])


def joined(parts: Sequence[Objects]) -> Objects:
    """Return the objects of several cases together."""
    return Objects(
        np.concatenate([p.area_px for p in parts]) if parts else np.zeros(0, np.int64),
        np.concatenate([p.covered for p in parts]) if parts else np.zeros(0),
    )


def by_size(objects: Objects) -> list[SizeBin]:
    """Return bins of about equally many objects, the smallest first; objects of one area together.

    There are at most five, and fewer where a bin would hold less than eight.
    """
    total = objects.area_px.size
    if total == 0:
        return []
    bins = max(1, min(MOST_BINS, total // FEWEST_PER_BIN))
    edges = np.unique(np.quantile(objects.area_px, np.linspace(0, 1, bins + 1)[1:-1]))
    places = np.searchsorted(edges, objects.area_px, side="left")
    found = []
    for place in np.unique(places):
        area = objects.area_px[places == place]
        covered = int((objects.covered[places == place] >= COVERED).sum())
        found.append(
            SizeBin(
                (int(area.min()), int(area.max())), area.size, covered, wilson95(covered, area.size)
            )
        )
    return found


def wilson95(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927).

    Objects of one image are more alike than chance, so the true interval is somewhat wider.
    """
    z = 1.959964
    share, per = successes / trials, z**2 / trials
    middle = (share + per / 2) / (1 + per)
    half = z / (1 + per) * math.sqrt(share * (1 - share) / trials + per / (4 * trials))
    # At the ends the formula gives 0 and 1, but for rounding.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == trials else middle + half
    return low, high
