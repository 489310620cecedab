"""What an image is like as a whole, to see on which images a model fails."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# what it is and its unit, by field of ImageProperties
LABELS = {
    "brightness": "brightness: mean intensity",
    "contrast": "contrast: standard deviation of intensity",
    "sharpness": "sharpness: mean step to the next pixel / contrast",
    "megapixels": "megapixels: height x width",
    "foreground": "foreground: its share of the truth",
}


@dataclass(frozen=True)
class ImageProperties:
    """Properties of one image; intensities raw, the mean of all channels.

    Attributes:
        brightness: mean intensity.
        contrast: standard deviation of intensity.
        sharpness: mean absolute step between horizontal and vertical neighbours, divided by the
            contrast; 0 for a constant image.
        megapixels: height x width / 1e6.
        foreground: share of the pixels that count which hold any class but the background.
    """

    brightness: float
    contrast: float
    sharpness: float
    megapixels: float
    foreground: float


def properties_of(
    image_chw: NDArray[np.float32], foreground: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> ImageProperties:
    """Return the properties of one image.

    Args:
        image_chw: raw intensities [C, H, W].
        foreground: where the truth has any class but the background, [H, W].
        counted: which pixels count, [H, W].
    """
    grey = image_chw.mean(axis=0, dtype=np.float64)
    contrast = float(grey.std())
    steps = np.concatenate([np.abs(np.diff(grey, axis=axis)).ravel() for axis in (0, 1)])
    labelled = int(counted.sum())
    return ImageProperties(
        brightness=float(grey.mean()),
        contrast=contrast,
        sharpness=float(steps.mean()) / contrast if steps.size and contrast > 0 else 0.0,
        megapixels=grey.size / 1e6,
        foreground=int((foreground & counted).sum()) / labelled if labelled else 0.0,
    )
