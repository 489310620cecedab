"""How far the outlines of two masks lie apart: HD95, ASSD and the surface Dice (NSD).

Two outlines are in use, and both are kept, because each definition names its own:

* HD95 and ASSD (Heimann 2009, as MONAI and medpy have them) take the mask's outermost pixels,
  those that erosion by the 4-neighbourhood removes; distances run between pixel centres.
* NSD (Nikolov 2018, DeepMind's surface-distance) takes the line between inside and outside, cut
  into pieces by the corners of the pixels; each piece weighs its length.

A mask that reaches the image's border has an outline there. Both masks must hold a pixel; what
an empty one scores is decided in ``contract/measures.py``.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
Spacing = tuple[float, ...]
"""Distance of neighbouring pixels along each axis, in the unit that lengths are wanted in."""

# Distances come out of square roots; one that equals the tolerance must not fail by rounding.
ROUNDING = 1e-6

# Up to this size a stamp on every outline pixel is faster than looking for the nearest one.
LARGEST_STAMP_PX = 1000


@dataclass(frozen=True)
class OutlineDistances:
    """From each outline pixel of one mask to the nearest outline pixel of the other.

    Attributes:
        to_truth: ``[n]``, one per outline pixel of the prediction.
        to_prediction: ``[m]``, one per outline pixel of the truth.
    """

    to_truth: NDArray[np.float64]
    to_prediction: NDArray[np.float64]

    @property
    def hd95(self) -> float:
        """The larger of the two directed 95th percentiles, interpolated linearly."""
        return max(float(np.percentile(d, 95)) for d in (self.to_truth, self.to_prediction))

    @property
    def assd(self) -> float:
        """Mean over the outline pixels of both masks together."""
        total = float(self.to_truth.sum()) + float(self.to_prediction.sum())
        return total / (self.to_truth.size + self.to_prediction.size)


def outline_distances(prediction: Mask, truth: Mask, spacing: Spacing) -> OutlineDistances:
    """Measure between the outermost pixels of two masks of one shape, of any number of axes.

    Raises:
        ValueError: a mask is empty.
    """
    prediction, truth = _cropped(prediction, truth)
    ours, theirs = (mask & ~ndimage.binary_erosion(mask) for mask in (prediction, truth))
    return OutlineDistances(
        to_truth=_nearest(ours, theirs, spacing), to_prediction=_nearest(theirs, ours, spacing)
    )


def surface_dice(prediction: Mask, truth: Mask, spacing: Spacing, tolerance: float) -> float:
    """Return the share of both outlines' length that lies within ``tolerance`` of the other.

    Args:
        prediction: ``[H, W]``.
        truth: ``[H, W]``.
        spacing: (row, column).
        tolerance: in the unit of ``spacing``; a piece at just this distance counts as within.

    Raises:
        ValueError: a mask is empty, or not two-dimensional.
    """
    if prediction.ndim != 2:
        raise ValueError(f"NSD is made for [H, W], got {list(prediction.shape)}")
    lengths = _length_by_corners(spacing)
    ours, theirs = (_corners(mask) for mask in _cropped(prediction, truth))
    our_line, their_line = ((code > 0) & (code < 15) for code in (ours, theirs))
    within = tolerance * (1 + ROUNDING)
    our_lengths, their_lengths = lengths[ours[our_line]], lengths[theirs[their_line]]
    close = float(our_lengths[_near(our_line, their_line, spacing, within)].sum())
    close += float(their_lengths[_near(their_line, our_line, spacing, within)].sum())
    return close / float(our_lengths.sum() + their_lengths.sum())


def _cropped(first: Mask, second: Mask) -> tuple[Mask, Mask]:
    """Cut both to the box that holds both, which changes no distance."""
    if not (first.any() and second.any()):
        raise ValueError("a mask is empty: it has no outline to measure from")
    box = ndimage.find_objects((first | second).view(np.uint8))[0]
    return first[box], second[box]


def _near(queries: Mask, targets: Mask, spacing: Spacing, within: float) -> Mask:
    """Tell of each query pixel ``[H, W]`` whether a target pixel lies within a distance."""
    rows, columns = (int(within / step) for step in spacing)
    if (2 * rows + 1) * (2 * columns + 1) > LARGEST_STAMP_PX:
        return _nearest(queries, targets, spacing) <= within
    down, right = np.mgrid[-rows : rows + 1, -columns : columns + 1]
    stamp = np.hypot(down * spacing[0], right * spacing[1]) <= within
    reached = cv2.dilate(np.ascontiguousarray(targets).view(np.uint8), stamp.view(np.uint8))
    return np.asarray(reached[queries], dtype=np.bool_)


def _nearest(queries: Mask, targets: Mask, spacing: Spacing) -> NDArray[np.float64]:
    """Return the distance from each query pixel to the nearest target pixel."""
    if queries.ndim == 2 and spacing[0] == spacing[1]:
        apart = np.ascontiguousarray(~targets).view(np.uint8)
        distance_map = cv2.distanceTransform(apart, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        # float32, but squares of pixel distances are whole numbers: rounding makes them exact up
        # to 2000 px (beyond, they are off by 1e-7 of themselves).
        squares = np.rint(np.square(distance_map[queries], dtype=np.float64))
        return np.asarray(np.sqrt(squares) * spacing[0], dtype=np.float64)
    # A tree asks only where it must; built without balancing, as it is asked just once.
    tree = KDTree(np.argwhere(targets) * spacing, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(np.argwhere(queries) * spacing)
    return np.asarray(distances, dtype=np.float64)


def _corners(mask: Mask) -> NDArray[np.uint8]:
    """Return which of its four pixels each pixel corner has inside, ``[H + 1, W + 1]``.

    Bits: 8 upper left, 4 upper right, 2 lower left, 1 lower right; 0 and 15 lie off the outline.
    """
    m = np.pad(mask, 1).view(np.uint8)
    codes = 8 * m[:-1, :-1] + 4 * m[:-1, 1:] + 2 * m[1:, :-1] + m[1:, 1:]
    return np.asarray(codes, dtype=np.uint8)


def _length_by_corners(spacing: Spacing) -> NDArray[np.float64]:
    """Return the length of outline about a corner, by its code (marching squares)."""
    vertical, horizontal = spacing
    diagonal = 0.5 * float(np.hypot(vertical, horizontal))
    lengths = np.full(16, diagonal)
    lengths[[0b0000, 0b1111]] = 0
    lengths[[0b0011, 0b1100]] = horizontal
    lengths[[0b0101, 0b1010]] = vertical
    lengths[[0b0110, 0b1001]] = 2 * diagonal
    return lengths
