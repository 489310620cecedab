"""Bring an image's channels to those that a model takes."""

import numpy as np
import numpy.typing as npt

from imaging.errors import ChannelMismatch

# ITU-R BT.601-7, section 2.5.1, as in every library's RGB → grey.
REC601_LUMA = (0.299, 0.587, 0.114)


def match_channels(pixels_hwc: npt.NDArray[np.generic], channels: int) -> npt.NDArray[np.generic]:
    """Return ``[H, W, channels]``.

    ============  ==  =========================================================================
    came          to  how
    ============  ==  =========================================================================
    as many       =   unchanged, the same array
    grey (1)      3   repeated
    grey + alpha  1   alpha dropped
    grey + alpha  3   alpha dropped, grey repeated
    RGBA (4)      3   alpha dropped
    RGB, RGBA     1   where the three are equal everywhere, that channel with its type kept;
                      else luma 0.299 R + 0.587 G + 0.114 B (Rec. 601) in float32, not rounded
    ============  ==  =========================================================================

    Alpha is dropped, never blended: what a viewer hides was still measured.

    Raises:
        ChannelMismatch: Any other pair.
    """
    came = pixels_hwc.shape[2]
    if came == channels:
        return pixels_hwc
    if came in (1, 2) and channels == 1:
        return pixels_hwc[:, :, :1]
    if came in (1, 2) and channels == 3:
        return np.repeat(pixels_hwc[:, :, :1], 3, axis=2)
    if came == 4 and channels == 3:
        return pixels_hwc[:, :, :3]
    if came in (3, 4) and channels == 1:
        return _grey_hw1(pixels_hwc)
    raise ChannelMismatch(
        f"the image has {came} channel{'s' * (came != 1)}, the model takes {channels}; only grey, "
        "RGB and their alpha forms are turned into each other: send an image with "
        f"{channels} channel{'s' * (channels != 1)}"
    )


def to_chw_float32(pixels_hwc: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return contiguous float32 ``[C, H, W]`` with the same raw intensities."""
    return np.ascontiguousarray(pixels_hwc.transpose(2, 0, 1), dtype=np.float32)


def _grey_hw1(pixels_hwc: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    red, green, blue = (pixels_hwc[:, :, channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return pixels_hwc[:, :, :1]
    planes = (plane.astype(np.float32) for plane in (red, green, blue))
    luma = np.zeros(red.shape, np.float32)
    for weight, plane in zip(REC601_LUMA, planes, strict=True):
        luma += np.float32(weight) * plane
    return luma[:, :, None]
