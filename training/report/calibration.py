"""Whether a model's confidence can be believed: whether 80 % of the pixels given 0.8 are right.

    ECE = sum over bins of (pixels in bin / all pixels) |mean confidence - share that is right|

(Naeini 2015, Guo 2017), over pixels of all images together, 15 bins of equal width.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Pixels by confidence; sums can be added over images.

    Attributes:
        pixels: in each bin, [15].
        confidence: sum of the confidences in each bin.
        right: pixels in each bin whose label is the truth's.
    """

    pixels: NDArray[np.int64]
    confidence: NDArray[np.float64]
    right: NDArray[np.int64]

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(
            self.pixels + other.pixels, self.confidence + other.confidence, self.right + other.right
        )

    @property
    def ece(self) -> float:
        """Expected calibration error, 0 (perfect) to 1; NaN without pixels."""
        total = int(self.pixels.sum())
        return float(np.abs(self.confidence - self.right).sum() / total) if total else float("nan")


def reliability(
    probabilities: NDArray[np.float32],
    truth: NDArray[np.uint8],
    *,
    task: Literal["multiclass", "multilabel"],
    ignore: int,
) -> Reliability:
    """Return the pixels of one image by the confidence in their label.

    Args:
        probabilities: [K, H, W].
        truth: class indices [H, W]; for multilabel 0/1 [K, H, W], each class's pixels by itself.
        task: multiclass: the label is the likeliest class and its probability the confidence;
            multilabel: the label is p >= 0.5 and the confidence max(p, 1 - p).
        ignore: value of ``truth`` whose pixels count for nothing.
    """
    if task == "multilabel":
        label = (probabilities >= 0.5).astype(np.uint8)
        confidence = np.maximum(probabilities, 1 - probabilities)
    else:
        label = probabilities.argmax(axis=0).astype(np.uint8)
        confidence = probabilities.max(axis=0)
    counted = truth != ignore
    sure = confidence[counted].astype(np.float64)
    right = (label == truth)[counted]
    place = np.clip((sure * BINS).astype(np.int64), 0, BINS - 1)
    return Reliability(
        np.bincount(place, minlength=BINS),
        np.bincount(place, weights=sure, minlength=BINS).astype(np.float64),
        np.bincount(place[right], minlength=BINS),
    )
