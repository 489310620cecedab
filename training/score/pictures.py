"""Masks drawn over images, and pictures side by side on one sheet."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from contract.spec import Colour

Picture = NDArray[np.uint8]
MARGIN_PX = 6
CAPTION_PX = 18


def tint(display_rgb: Picture, labels_hw: NDArray[np.uint8], palette: Sequence[Colour]) -> Picture:
    """Return the picture with each class but the first outlined and lightly filled.

    Args:
        display_rgb: uint8 [H, W, 3].
        labels_hw: class index per pixel; 255 is left untouched.
        palette: colour by class index.
    """
    out = display_rgb.copy()
    for index, colour in enumerate(palette[1:], start=1):
        inside = labels_hw == index
        blend = 0.65 * out[inside] + 0.35 * np.array(colour, dtype=np.float32)
        out[inside] = blend.astype(np.uint8)
        outlines, _ = cv2.findContours(
            inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(out, outlines, -1, tuple(int(c) for c in colour), 1)
    return out


def side_by_side(
    rows: Sequence[tuple[str, Sequence[Picture]]],
    *,
    titles: Sequence[str],
    cell_px: int = 224,
) -> Picture:
    """Return rows of pictures on white, each row with its caption, each column with its title.

    Args:
        rows: caption and pictures uint8 [H, W, 3] of each row; any sizes, fitted into the cell.
        titles: one per column.
        cell_px: side of a cell.
    """
    fitted = [(caption, [_fit(picture, cell_px) for picture in row]) for caption, row in rows]
    heights = [max(picture.shape[0] for picture in row) for _, row in fitted]
    width = MARGIN_PX + len(titles) * (cell_px + MARGIN_PX)
    height = CAPTION_PX + MARGIN_PX + sum(h + CAPTION_PX + MARGIN_PX for h in heights)
    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    for column, title in enumerate(titles):
        _write(sheet, title, x=MARGIN_PX + column * (cell_px + MARGIN_PX), y=CAPTION_PX - 4)
    top = CAPTION_PX + MARGIN_PX
    for (caption, row), row_height in zip(fitted, heights, strict=True):
        _write(sheet, caption, x=MARGIN_PX, y=top + CAPTION_PX - 5, grey=90)
        for column, picture in enumerate(row):
            left = MARGIN_PX + column * (cell_px + MARGIN_PX)
            place = sheet[top + CAPTION_PX :, left:]
            place[: picture.shape[0], : picture.shape[1]] = picture
        top += row_height + CAPTION_PX + MARGIN_PX
    return sheet


def write_picture(path: Path, picture_rgb: Picture) -> None:
    """Write uint8 [H, W, 3] as PNG."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(picture_rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise OSError(f"{path} could not be encoded as PNG")
    path.write_bytes(encoded.tobytes())


def _fit(picture: Picture, side: int) -> Picture:
    scale = side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=shrink), dtype=np.uint8)


def _write(sheet: Picture, text: str, *, x: int, y: int, grey: int = 0) -> None:
    cv2.putText(
        sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (grey, grey, grey), 1, cv2.LINE_AA
    )
