"""Labels as run lengths, row by row: quick to write and to read back, for any number of classes.

COCO's run lengths (`imaging.rle`) go column by column, in a text of their own, and take ten times
as long; they are for the tools that know them.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from imaging.npz import write_npz


def encode_runs(labels: npt.NDArray[np.uint8], names: Sequence[str]) -> bytes:
    """Return an npz archive of ``values``, ``lengths``, ``shape`` and ``classes``.

    ``numpy.repeat(values, lengths).reshape(shape)`` gives the labels back. A run may go on from
    one row to the next, and from one plane to the next.

    Args:
        labels: uint8 of any shape, not empty.
        names: of the classes.

    Raises:
        ValueError: Another type, or empty.
    """
    if labels.dtype != np.uint8 or labels.size == 0:
        raise ValueError(
            f"labels of type {labels.dtype} and shape {labels.shape} came, expected uint8, not "
            "empty"
        )
    flat = labels.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = np.diff(starts, append=flat.size)
    return write_npz(
        {
            "values": flat[starts],
            "lengths": lengths.astype(np.min_scalar_type(lengths.max())),
            "shape": np.array(labels.shape, np.uint32),
            "classes": np.array(names),
        }
    )
