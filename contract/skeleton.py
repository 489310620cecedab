"""clDice: whether thin structures are connected as they should be (Shit 2021, CVPR).

    Tprec = |S(P) ∩ T| / |S(P)|        Tsens = |S(T) ∩ P| / |S(T)|
    clDice = 2 Tprec Tsens / (Tprec + Tsens)

S is the skeleton. It comes from scikit-image (Zhang 1984; for volumes Lee 1994), as in the
authors' own code. scikit-image is in the training extra, so nothing that serves imports this.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

Mask = NDArray[np.bool_]


def skeleton(mask: Mask) -> Mask:
    """Return the centre lines of a mask, one pixel wide, of the mask's shape (2 or 3 axes)."""
    return np.asarray(skeletonize(mask), dtype=np.bool_)


def cl_dice(prediction: Mask, truth: Mask) -> float:
    """Return the harmonic mean of how much of each skeleton lies in the other mask.

    Raises:
        ValueError: a mask is empty.
    """
    if not (prediction.any() and truth.any()):
        raise ValueError("a mask is empty: it has no skeleton")
    precision = _share_inside(skeleton(prediction), truth)
    sensitivity = _share_inside(skeleton(truth), prediction)
    both = precision + sensitivity
    return 2 * precision * sensitivity / both if both else 0.0


def _share_inside(lines: Mask, mask: Mask) -> float:
    return float(np.count_nonzero(lines & mask) / np.count_nonzero(lines))
