"""What is kept of an image after it was checked: enough to find its copies and surprises."""

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.decode import DecodedImage
from training.data.look import Look, look_of

THUMB_SIDE_PX = 32
FULL_ALPHA = {"uint8": 255, "uint16": 65535, "float32": 1}


@dataclass(frozen=True)
class Glance:
    """What was seen of one image's pixels.

    Attributes:
        channels: those that carry content: a constant alpha (2nd or 4th channel) does not.
        stored_channels: of the decoded file.
        bits: of a stored sample: 8, 16 or 32 (floating point).
        low: least raw intensity, alpha left out where it is constant.
        high: greatest raw intensity.
        alpha: ``none``, ``opaque``, ``see-through`` (constant below the type's maximum) or
            ``varying``.
        digest: equal where the pictures are, whether grey, RGB of three equal channels, or with
            a constant alpha.
        look: what kind of image it is.
        thumb_hw: float32 ``[32, 32]``, mean over channels, area averages.
    """

    channels: int
    stored_channels: int
    bits: int
    low: float
    high: float
    alpha: str
    digest: str
    look: Look
    thumb_hw: NDArray[np.float32]


def glance_at(image: DecodedImage) -> Glance:
    """Look at the decoded pixels once."""
    pixels = image.pixels_hwc
    content = pixels[..., : meaningful_channels(pixels)]
    alpha = "none"
    if pixels.shape[2] in (2, 4):
        alpha = "varying"
        if content.shape[2] < pixels.shape[2]:
            opaque = float(pixels[0, 0, -1]) >= FULL_ALPHA[pixels.dtype.name]
            alpha = "opaque" if opaque else "see-through"
    return Glance(
        channels=content.shape[2],
        stored_channels=pixels.shape[2],
        bits=32 if pixels.dtype.kind == "f" else 8 * pixels.dtype.itemsize,
        low=float(content.min()),
        high=float(content.max()),
        alpha=alpha,
        digest=_digest(content),
        look=look_of(content),
        thumb_hw=grey_of(content, (THUMB_SIDE_PX, THUMB_SIDE_PX)),
    )


def meaningful_channels(pixels_hwc: NDArray[np.generic]) -> int:
    """Return the channels that carry content: a constant alpha (2nd or 4th channel) does not."""
    channels = int(pixels_hwc.shape[2])
    if channels in (2, 4):
        alpha = pixels_hwc[..., -1]
        if alpha.size and bool((alpha == alpha[0, 0]).all()):
            return channels - 1
    return channels


def grey_of(
    content_hwc: NDArray[np.generic], size_hw: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """Return the mean over channels ``[h, w]``, resized by area averages where a size is given."""
    # Plane by plane: OpenCV reduces and resizes at most four channels at once.
    planes = [np.ascontiguousarray(content_hwc[..., c]) for c in range(content_hwc.shape[2])]
    if size_hw is not None:
        size = (size_hw[1], size_hw[0])
        planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes]
    grey = np.zeros(planes[0].shape, np.float32)
    for plane in planes:
        grey += plane.astype(np.float32) / len(planes)
    return grey


def _digest(content_hwc: NDArray[np.generic]) -> str:
    if content_hwc.shape[2] == 3:
        first = content_hwc[..., 0]
        if all(np.array_equal(first, content_hwc[..., c]) for c in (1, 2)):
            content_hwc = content_hwc[..., :1]
    found = hashlib.sha256(f"{content_hwc.dtype.name} {content_hwc.shape} ".encode())
    found.update(np.ascontiguousarray(content_hwc).data)
    return found.hexdigest()
