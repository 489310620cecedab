"""COCO's compressed run lengths: column-major, starting with a run of zeros.

Label Studio's and CVAT's run lengths are other codings of the same name.
"""

import warnings
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco


class Rle(TypedDict):
    """A mask as COCO writes it; ``size`` is [height, width]."""

    size: list[int]
    counts: str


def encode_rle(mask_hw: npt.NDArray[np.bool_]) -> Rle:
    """Encode a mask; anything but zero counts as set.

    Raises:
        ValueError: Not two-dimensional.
    """
    if mask_hw.ndim != 2:
        raise ValueError(f"a mask of shape {mask_hw.shape} came, expected [H, W]")
    encoded = coco.encode(np.asfortranarray(mask_hw != 0, dtype=np.uint8))
    height_px, width_px = mask_hw.shape
    return {"size": [height_px, width_px], "counts": encoded["counts"].decode("ascii")}


def decode_rle(rle: Rle) -> npt.NDArray[np.bool_]:
    """Return the bool ``[H, W]`` mask that `encode_rle` took."""
    with warnings.catch_warnings():
        # pycocotools 2.0.11 predates NumPy 2's copy keyword; its result is right.
        warnings.simplefilter("ignore", DeprecationWarning)
        mask_hw = coco.decode({"size": rle["size"], "counts": rle["counts"].encode("ascii")})
    return np.ascontiguousarray(mask_hw != 0)
