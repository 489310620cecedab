"""One patch out of an image: crop, magnification and rotation in a single interpolation."""

import math
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.masks import IGNORE

S = TypeVar("S", bound=np.generic)

CHANNELS_AT_ONCE = 4  # OpenCV's limit for warping


@dataclass(frozen=True)
class Placement:
    """Where a patch lies in its image, all in pixels; (y, x) of the middle, in pixel centres."""

    centre_yx: tuple[float, float]
    scale: float
    rotation_deg: float
    patch_hw: tuple[int, int]

    @property
    def patch_to_image(self) -> NDArray[np.float64]:
        """The affine map ``[2, 3]`` from patch (x, y) to image (x, y)."""
        angle = math.radians(self.rotation_deg)
        cos, sin = math.cos(angle) / self.scale, math.sin(angle) / self.scale
        (y, x), (height, width) = self.centre_yx, self.patch_hw
        mid_y, mid_x = (height - 1) / 2, (width - 1) / 2
        return np.array(
            [
                [cos, -sin, x - cos * mid_x + sin * mid_y],
                [sin, cos, y - sin * mid_x - cos * mid_y],
            ]
        )


def place(
    rng: np.random.Generator,
    image_hw: tuple[int, int],
    patch_hw: tuple[int, int],
    *,
    scale: float = 1.0,
    rotation_deg: float = 0.0,
    around_yx: tuple[int, int] | None = None,
) -> Placement:
    """Place a patch, within the image as far as it fits.

    Args:
        rng: draws the place where ``around_yx`` leaves it open.
        image_hw: the image's size.
        patch_hw: the patch's size.
        scale: magnification; at 0.5 the patch shows twice its own size.
        rotation_deg: turn about the patch's middle; its corners may then leave the image.
        around_yx: a pixel to put in the middle, or as near to it as the image's edge allows.
    """
    centre = []
    for side, patch, wanted in zip(image_hw, patch_hw, around_yx or (None, None), strict=True):
        shown = patch / scale
        room = side - shown
        # Whole pixels, so that an unscaled patch is an exact copy.
        first = int(rng.integers(min(math.ceil(room), 0), max(math.floor(room), 0) + 1))
        if wanted is not None and room > 0:
            first = math.floor(min(max(wanted + 0.5 - shown / 2, 0.0), room))
        centre.append(first + shown / 2 - 0.5)
    return Placement((centre[0], centre[1]), scale, rotation_deg, patch_hw)


def cut_image(image_hwc: NDArray[np.generic], placement: Placement) -> NDArray[np.float32]:
    """Return the patch ``[h, w, C]`` as float32, bilinear; past the edge the image is mirrored."""
    source, matrix = _needed(image_hwc, placement)
    return _warped(
        source.astype(np.float32),
        matrix,
        placement.patch_hw,
        cv2.INTER_LINEAR,
        cv2.BORDER_REFLECT_101,
        0,
    )


def cut_mask(mask: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """Return the patch of a mask ``[H, W]`` or ``[H, W, K]``, nearest; past the edge ``IGNORE``.

    What is mirrored past the edge is context for the net, not truth: a mirrored left lung looks
    like a right one.
    """
    source, matrix = _needed(mask if mask.ndim == 3 else mask[..., None], placement)
    patch = _warped(
        source, matrix, placement.patch_hw, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, IGNORE
    )
    return patch if mask.ndim == 3 else patch[..., 0]


def _needed(image_hwc: NDArray[S], placement: Placement) -> tuple[NDArray[S], NDArray[np.float64]]:
    """Return the part of the image that the patch can touch and the map into that part.

    Mirroring needs the image's real edge, which the part keeps wherever the patch crosses it:
    the part then reaches from that edge as far inwards as the patch reaches outwards.
    """
    matrix = placement.patch_to_image.copy()
    height, width = placement.patch_hw
    corners = np.array(
        [[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]]
    )
    reached = corners @ matrix.T  # [4, 2] x, y
    slices = []
    for axis, side in ((1, image_hwc.shape[0]), (0, image_hwc.shape[1])):
        low = math.floor(float(reached[:, axis].min())) - 1
        high = math.ceil(float(reached[:, axis].max())) + 2
        first, last = max(0, low), min(side, high)
        if low < 0:
            last = max(last, min(side, 1 - low))
        if high > side:
            first = min(first, max(0, 2 * side - high - 1))
        slices.append(slice(first, last))
        matrix[axis, 2] -= first
    return image_hwc[slices[0], slices[1]], matrix


def _warped(
    source_hwc: NDArray[S],
    matrix: NDArray[np.float64],
    patch_hw: tuple[int, int],
    interpolation: int,
    border: int,
    fill: int,
) -> NDArray[S]:
    pieces: list[NDArray[S]] = []
    for start in range(0, source_hwc.shape[2], CHANNELS_AT_ONCE):
        piece = cv2.warpAffine(
            np.ascontiguousarray(source_hwc[..., start : start + CHANNELS_AT_ONCE]),
            matrix,
            (patch_hw[1], patch_hw[0]),
            flags=interpolation | cv2.WARP_INVERSE_MAP,
            borderMode=border,
            borderValue=(fill,) * 4,
        )
        pieces.append(piece if piece.ndim == 3 else piece[..., None])
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=2)
