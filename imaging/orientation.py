"""Turn stored pixels the way a viewer shows them."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Pixel = TypeVar("Pixel", bound=np.generic)


def apply_orientation(pixels_hwc: npt.NDArray[Pixel], orientation: int) -> npt.NDArray[Pixel]:
    """Return the pixels as shown; orientations 5 to 8 exchange height and width.

    Args:
        pixels_hwc: Stored array ``[H, W, …]``.
        orientation: EXIF orientation 1..8 (EXIF 2.32, tag 0x0112).

    Raises:
        ValueError: Another orientation.
    """
    if orientation not in range(1, 9):
        raise ValueError(f"orientation {orientation} came, EXIF knows 1 to 8")
    if orientation >= 5:
        pixels_hwc = pixels_hwc.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels_hwc = pixels_hwc[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_hwc = pixels_hwc[:, ::-1]
    return np.ascontiguousarray(pixels_hwc)
