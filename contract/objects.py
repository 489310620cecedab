"""Whether the right objects were found: F1 over connected regions."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

MIN_IOU = 0.5


def object_f1(prediction: Mask, truth: Mask) -> float:
    """Return ``2 TP / (objects predicted + objects true)``.

    An object is a region joined over edges and corners, as in the service's answers. A predicted
    one is a hit (TP) where its IoU with a true one is **above** 0.5; above it, one object has at
    most one partner (Kirillov 2019), so that no matching has to be chosen. Objects that touch are
    one object here: a semantic mask does not know better.

    Args:
        prediction: any number of axes.
        truth: of the same shape.

    Raises:
        ValueError: both masks are empty.
    """
    joined = ndimage.generate_binary_structure(truth.ndim, truth.ndim)
    (ours, n_ours), (theirs, n_theirs) = (
        ndimage.label(mask, structure=joined) for mask in (prediction, truth)
    )
    if n_ours + n_theirs == 0:
        raise ValueError("both masks are empty: there are no objects to count")
    both = prediction & truth
    pairs = ours[both].astype(np.int64) * (n_theirs + 1) + theirs[both]
    pair, overlap = np.unique(pairs, return_counts=True)
    our_sizes, their_sizes = (np.bincount(labels.ravel()) for labels in (ours, theirs))
    union = our_sizes[pair // (n_theirs + 1)] + their_sizes[pair % (n_theirs + 1)] - overlap
    hits = int(np.count_nonzero(overlap > MIN_IOU * union))
    return 2 * hits / (n_ours + n_theirs)
