"""Does a net that says 0.8 hit 8 times in 10? Guo et al. 2017, "On Calibration of Modern Neural
Networks", eq. 2, 3 and 5, with a pixel as the sample.

The confidence of a pixel is the probability of its most probable class, and it hits where that
class is the truth (multilabel: each class by itself, present or absent). In B equal bins of the
confidence,

    ECE = sum over bins of n_b / n * | hits_b / n_b - mean confidence_b |

Labels that thresholds moved play no part: this is about the probabilities.
"""  # noqa: D205

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.decision import Task

BINS = 15  # Guo 2017


@dataclass(frozen=True)
class Reliability:
    """Counts per bin of the confidence, bin b from b / B to (b + 1) / B; they add up.

    Attributes:
        pixels: how many pixels lie in the bin.
        hits: how many of them are right.
        confidence: the sum of their confidences.
        nll: sum over all pixels of -ln of the probability of the truth.
    """

    pixels: tuple[int, ...]
    hits: tuple[int, ...]
    confidence: tuple[float, ...]
    nll: float

    @property
    def ece(self) -> float:
        """Expected calibration error, 0 to 1; NaN without pixels."""
        pixels = self.total
        if pixels == 0:
            return math.nan
        gaps = [abs(hit - sure) for hit, sure in zip(self.hits, self.confidence, strict=True)]
        return sum(gaps) / pixels

    @property
    def mean_nll(self) -> float:
        """Negative log-likelihood per pixel, in nats; NaN without pixels."""
        return self.nll / self.total if self.total else math.nan

    @property
    def total(self) -> int:
        """Pixels in all bins (multilabel: pixels times classes)."""
        return sum(self.pixels)

    def __add__(self, other: "Reliability") -> "Reliability":
        """Return the counts of both together."""
        return Reliability(
            pixels=tuple(a + b for a, b in zip(self.pixels, other.pixels, strict=True)),
            hits=tuple(a + b for a, b in zip(self.hits, other.hits, strict=True)),
            confidence=tuple(a + b for a, b in zip(self.confidence, other.confidence, strict=True)),
            nll=self.nll + other.nll,
        )


NOTHING = Reliability(pixels=(0,) * BINS, hits=(0,) * BINS, confidence=(0.0,) * BINS, nll=0.0)


def reliability_of(
    probabilities_kn: NDArray[np.floating],
    truth: NDArray[np.uint8],
    counted: NDArray[np.bool_],
    task: Task,
) -> Reliability:
    """Return the counts of one image.

    Args:
        probabilities_kn: ``[K, n]``.
        truth: ``[n]`` class indices, multilabel ``[K, n]`` of 0/1.
        counted: shaped as ``truth``; pixels that are not are left out.
        task: multiclass or multilabel.
    """
    if task == "multilabel":
        p, true = probabilities_kn[counted], truth[counted] > 0
        confidence, hit = np.maximum(p, 1 - p), (p > 0.5) == true
        of_truth = np.where(true, p, 1 - p)
    else:
        p, true_index = probabilities_kn[:, counted], truth[counted]
        confidence, hit = p.max(axis=0), p.argmax(axis=0) == true_index
        of_truth = np.take_along_axis(p, true_index[None].astype(np.intp), axis=0)[0]
    # Confidence 1 belongs into the last bin, not into one of its own.
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return Reliability(
        pixels=tuple(np.bincount(bins, minlength=BINS).tolist()),
        hits=tuple(np.bincount(bins[hit], minlength=BINS).tolist()),
        confidence=tuple(np.bincount(bins, weights=confidence, minlength=BINS).tolist()),
        nll=float(-np.log(np.maximum(of_truth, np.finfo(np.float32).tiny)).sum()),
    )
