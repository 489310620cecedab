"""Connected regions of a mask: how much, how many, and where."""

import cv2
import numpy as np
import numpy.typing as npt

_BACKGROUND_ROW = 1


def area_px(mask_hw: npt.NDArray[np.generic]) -> int:
    """Return how many pixels are set."""
    return int(np.count_nonzero(mask_hw))


def boxes_xyxy(mask_hw: npt.NDArray[np.generic]) -> list[list[int]]:
    """Return one box per region, ``[x1, y1, x2, y2]`` in pixels.

    Regions are joined over edges and corners (8-connectivity). x2 and y2 are exclusive, so
    ``mask[y1:y2, x1:x2]`` holds the region and x2 − x1 is its width. Sorted by y1, then x1, y2,
    x2. An empty mask gives an empty list.

    Raises:
        ValueError: Not two-dimensional.
    """
    if mask_hw.ndim != 2:
        raise ValueError(f"a mask of shape {mask_hw.shape} came, expected [H, W]")
    if mask_hw.size == 0:
        return []
    *_, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(mask_hw != 0).view(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    regions = stats[_BACKGROUND_ROW:]
    x1, y1 = regions[:, cv2.CC_STAT_LEFT], regions[:, cv2.CC_STAT_TOP]
    x2, y2 = x1 + regions[:, cv2.CC_STAT_WIDTH], y1 + regions[:, cv2.CC_STAT_HEIGHT]
    order = np.lexsort((x2, y2, x1, y1))
    boxes: list[list[int]] = np.stack([x1, y1, x2, y2], axis=1)[order].tolist()
    return boxes


def outline_px(labels: npt.NDArray[np.generic]) -> int:
    """Return the length of all outlines: pairs of neighbouring pixels that differ.

    Args:
        labels: class indices ``[H, W]``, or masks ``[K, H, W]``; the image's border counts not.
    """
    rows = np.count_nonzero(labels[..., 1:, :] != labels[..., :-1, :])
    columns = np.count_nonzero(labels[..., :, 1:] != labels[..., :, :-1])
    return int(rows + columns)
