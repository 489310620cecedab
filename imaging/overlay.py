"""Pictures for people: an image as 8-bit RGB, and labels drawn over it."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]

WINDOW_PERCENTILES = (1.0, 99.0)
# Percentiles of a regular sample of this many values differ from the whole's by less than one
# grey level, and cost the same at any size.
_WINDOW_SAMPLES = 2**20


def display_rgb(pixels_hwc: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Return a new uint8 RGB array ``[H, W, 3]`` of any image.

    One or two channels show the first as grey, more show the first three as red, green and blue.
    uint8 stays; other types are windowed linearly from the 1st to the 99th percentile of the
    shown channels together, so colours keep their balance; a constant image is mid-grey.
    """
    shown_hwc = pixels_hwc[:, :, : 3 if pixels_hwc.shape[2] >= 3 else 1]
    if shown_hwc.dtype != np.uint8:
        shown_hwc = _windowed(shown_hwc)
    if shown_hwc.shape[2] == 1:
        shown_hwc = np.repeat(shown_hwc, 3, axis=2)
    return np.array(shown_hwc, dtype=np.uint8, order="C")


def overlay_png(
    pixels_hwc: npt.NDArray[np.generic],
    labels_hw: npt.NDArray[np.uint8],
    palette: Sequence[Colour],
    *,
    alpha: float = 0.4,
) -> bytes:
    """Draw labels over an image: a tint inside, a full-colour contour, background untouched.

    Args:
        pixels_hwc: The image, any type and number of channels (`display_rgb`).
        labels_hw: Class indices of the same height and width; 0 is background.
        palette: RGB 0..255 of each class, background first.
        alpha: Share of the class's colour inside, 0 to 1.

    Returns:
        An RGB PNG.

    Raises:
        ValueError: Sizes differ, a label without colour, or alpha outside 0..1.
    """
    if labels_hw.shape != pixels_hwc.shape[:2]:
        raise ValueError(
            f"labels of {labels_hw.shape} came for an image of {pixels_hwc.shape[:2]}; expected "
            "the same height and width"
        )
    largest = int(labels_hw.max(initial=0))
    if largest >= len(palette):
        raise ValueError(f"label {largest} came with {len(palette)} colours; expected one each")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha {alpha} came, expected 0 to 1")
    drawn = display_rgb(pixels_hwc)
    colour_hwc = np.take(np.array(palette, np.uint8), labels_hw, axis=0)
    tinted = cv2.addWeighted(drawn, 1 - alpha, colour_hwc, alpha, 0)
    np.copyto(drawn, tinted, where=(labels_hw != 0)[:, :, None])
    np.copyto(drawn, colour_hwc, where=_contour(labels_hw)[:, :, None])
    # OpenCV's own settings (run lengths over row differences) are twice as fast as its level 1,
    # and as small.
    _, png = cv2.imencode(".png", np.ascontiguousarray(drawn[:, :, ::-1]))
    return bytes(png.tobytes())


def _contour(labels_hw: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return the foreground pixels with a neighbour, over an edge, of another label."""
    contour = np.zeros(labels_hw.shape, np.bool_)
    across = labels_hw[:, 1:] != labels_hw[:, :-1]
    contour[:, 1:] |= across
    contour[:, :-1] |= across
    down = labels_hw[1:] != labels_hw[:-1]
    contour[1:] |= down
    contour[:-1] |= down
    contour &= labels_hw != 0
    return contour


def _windowed(shown_hwc: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    values = shown_hwc.astype(np.float32)
    flat = values.reshape(-1)
    low, high = np.percentile(flat[:: 1 + flat.size // _WINDOW_SAMPLES], WINDOW_PERCENTILES)
    if not high > low:
        low, high = flat.min(), flat.max()
    if not high > low:
        return np.full(values.shape, 128, np.uint8)
    scaled = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    grey: npt.NDArray[np.uint8] = np.rint(scaled * np.float32(255)).astype(np.uint8)
    return grey
