"""A fixed sample of an image's pixels, from which its statistics are told after a change."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OVERVIEW_SIDE_PX = 64


@dataclass(frozen=True)
class Overview:
    """What intensity changes need to know of a whole image.

    Attributes:
        pixels_hwc: float32, a sample of the raw pixels, at most 64 x 64 of them.
        low: the whole image's least intensity, over all channels.
        high: the whole image's greatest intensity, over all channels.
        statistics: float32 ``[C, 2]``, mean and population std of the whole image, raw.
    """

    pixels_hwc: NDArray[np.float32]
    low: float
    high: float
    statistics: NDArray[np.float32]


def overview_of(image_hwc: NDArray[np.generic], statistics: NDArray[np.float32]) -> Overview:
    """Draw the same pixels of an image every time; small images are taken whole."""
    height, width, channels = image_hwc.shape
    flat = image_hwc.reshape(height * width, channels)
    most = OVERVIEW_SIDE_PX**2
    if len(flat) > most:
        # At random, because a regular grid may beat with a texture's period.
        flat = flat[np.sort(np.random.default_rng(0).choice(len(flat), most, replace=False))]
        pixels = flat.reshape(OVERVIEW_SIDE_PX, OVERVIEW_SIDE_PX, channels)
    else:
        pixels = image_hwc
    return Overview(
        pixels.astype(np.float32), float(image_hwc.min()), float(image_hwc.max()), statistics
    )


def follow(
    whole: NDArray[np.floating], before_hwc: NDArray[np.float32], after_hwc: NDArray[np.float32]
) -> NDArray[np.floating]:
    """Return the whole image's statistics after a change that is known on a sample of its pixels.

    The sample's own error cancels to first order: the mean is corrected by the regression of the
    altered on the original values, the std by the ratio of the sample's. Both are exact for an
    affine change, such as inversion, and for a sample that is the whole image.
    """
    channels = before_hwc.shape[2]
    before = before_hwc.reshape(-1, channels).T.astype(np.float64, order="C")  # [C, n]
    after = after_hwc.reshape(-1, channels).T.astype(np.float64, order="C")
    mean_before, mean_after = before.mean(axis=1), after.mean(axis=1)
    before -= mean_before[:, None]
    after -= mean_after[:, None]
    variance = np.square(before).mean(axis=1)
    covariance = (before * after).mean(axis=1)
    known = variance > 0
    slope = np.divide(covariance, variance, out=np.zeros(channels), where=known)
    ratio = np.divide(whole[:, 1], np.sqrt(variance), out=np.ones(channels), where=known)
    mean = mean_after + slope * (whole[:, 0] - mean_before)
    return np.stack([mean, np.sqrt(np.square(after).mean(axis=1)) * ratio], axis=1)
