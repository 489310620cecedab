"""Masks as packed bits: one bit a pixel, the quickest that any mask is written, noise too."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from imaging.npz import write_npz

# Of bytes that differ from the one before them: past that, zlib takes time and gains nothing
# (1024², noise: 0.9 ms against 0.2).
_WORTH_DEFLATING = 0.25


def encode_bits(masks_khw: Sequence[npt.NDArray[np.bool_]], names: Sequence[str]) -> bytes:
    """Return an npz archive of ``planes``, ``width`` and ``classes``.

    ``planes`` is uint8 ``[K, H, ceil(W / 8)]``: rows of bits, the first pixel in the highest bit,
    each row filled up with zeros. ``numpy.unpackbits(planes, axis=-1, count=width)`` gives the
    masks back.

    Args:
        masks_khw: of equal shape ``[H, W]``, at least one.
        names: of each mask.

    Raises:
        ValueError: no mask, unequal shapes, or not a name for each.
    """
    if not masks_khw or len(masks_khw) != len(names):
        raise ValueError(f"{len(masks_khw)} masks and {len(names)} names came; give one for each")
    planes = np.stack([np.packbits(mask, axis=-1) for mask in masks_khw])
    changes = np.count_nonzero(planes[..., 1:] != planes[..., :-1])
    worth_it = changes < _WORTH_DEFLATING * planes.size
    return write_npz(
        {
            "planes": planes,
            "width": np.array(masks_khw[0].shape[1], np.uint32),
            "classes": np.array(names),
        },
        deflated=("planes",) if worth_it else (),
    )
