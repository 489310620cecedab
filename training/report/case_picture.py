"""One case as SVG: the image, and the contours of truth and answer over it."""

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from contract.spec import Colour

MAX_SIDE_PX = 480  # a third of the page at twice its density
TRUTH, ANSWER = "#00b4ff", "#ff5a1f"


def case_svg(
    name: str,
    display_rgb: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    answer: NDArray[np.uint8],
    palette: Sequence[Colour],
    *,
    foreground: Sequence[int],
) -> str:
    """Return two pictures one above the other: the image, and the same with contours.

    Args:
        name: a name for the image that is unique on the page.
        display_rgb: uint8 [H, W, 3].
        truth: class indices uint8 [H, W] (multilabel 0/1 [K, H, W]).
        answer: of the same shape.
        palette: colour by class index, used where there is more than one class in the foreground.
        foreground: indices of the classes that are drawn.
    """
    height, width = display_rgb.shape[:2]
    image = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="image">'
        f'<image id="{name}" width="{width}" height="{height}" '
        f'href="{png_uri(display_rgb)}"/></svg>'
    )
    lines = []
    for index in foreground:
        if len(foreground) == 1:
            colours = (TRUTH, ANSWER)
        else:
            colours = ("#{:02x}{:02x}{:02x}".format(*palette[index]),) * 2
        lines.append(_path(plane_of(truth, index), colours[0], dashed=False))
        lines.append(_path(plane_of(answer, index), colours[1], dashed=len(foreground) > 1))
    drawn = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="contours">'
        f'<use href="#{name}"/>{"".join(lines)}</svg>'
    )
    return image + drawn


def plane_of(labels: NDArray[np.uint8], index: int) -> NDArray[np.bool_]:
    """Return where a class is, [H, W], of class indices [H, W] or of 0/1 [K, H, W]."""
    plane: NDArray[np.bool_] = labels[index] == 1 if labels.ndim == 3 else labels == index
    return plane


def png_uri(display_rgb: NDArray[np.uint8]) -> str:
    """Return uint8 [H, W, 3], made smaller where it is large, as a ``data:`` address."""
    height, width = display_rgb.shape[:2]
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: NDArray[Any] = cv2.resize(display_rgb, size, interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    if not done:
        raise OSError(f"an image of {height} x {width} px could not be encoded as PNG")
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _path(inside: NDArray[np.bool_], colour: str, *, dashed: bool) -> str:
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return ""
    # OpenCV's points are indices of pixels; a pixel's middle is half a pixel further.
    pieces = [
        "M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in o[:, 0]) + "Z" for o in outlines
    ]
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<path d="{"".join(pieces)}" fill="none" stroke="{colour}" stroke-width="1.6"{dash} '
        'vector-effect="non-scaling-stroke" stroke-linejoin="round"/>'
    )
