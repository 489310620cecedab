"""How masks that ``fit`` refuses code their classes, told from their pixels.

A *level* is a value (or colour) that fills areas; what lies between levels, only ever beside both,
is an edge that was smoothed, resized or compressed. So a mask of 0 and 255 with blended edges has
two levels, and one of 0, 128 and 255 without has three.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.decode import read_image
from imaging.label_png import read_mask
from training.data.check import MAX_PIXELS, is_jpeg
from training.data.survey import MOST_INFERRED_CLASSES

CodingKind = Literal["values", "blended", "instances", "picture"]
Level = tuple[int, ...]  # a value, or a colour of three

SAMPLED_MASKS = 40
JPEG_TOLERANCE = 8  # what JPEG adds within an area; twice that and more stands beside edges
# Values nearer to a more frequent one than this are taken for it where edges are blended.
MERGED_WITHIN = 24
LEAST_AREA_PX = 9
LEAST_FLAT_SHARE = 1e-4
# Of the pixels beside edges, how many may hold another value than a level.
MOST_BLENDED = 0.02
# Of all pixels, how many lie within areas; a photograph has next to none.
LEAST_FLAT = 0.2
BESIDE = np.ones((5, 5), dtype=np.uint8)


@dataclass(frozen=True)
class Coding:
    """What masks hold.

    Attributes:
        kind: ``values``: nothing but levels; ``blended``: edges lie between levels;
            ``instances``: a number or colour per object; ``picture``: no mask at all.
        levels: the background first, then ascending; values, or colours as (R, G, B).
        shares: of all pixels that the levels fill, how much each holds.
    """

    kind: CodingKind
    levels: tuple[Level, ...]
    shares: tuple[float, ...]

    @property
    def coloured(self) -> bool:
        """Whether the levels are colours."""
        return len(self.levels[0]) == 3


@dataclass
class _Tally:
    total: Counter[Level]
    flat: Counter[Level]
    between: Counter[Level]


def coding_of(paths: Sequence[Path]) -> Coding | None:
    """Tell the coding from an evenly spread choice of mask files; None where there are no levels.

    Raises:
        ImageError: a file that does not decode.
    """
    places = np.linspace(0, len(paths) - 1, min(len(paths), SAMPLED_MASKS)).round().astype(int)
    chosen = [paths[place] for place in places]
    lossy = any(is_jpeg(path) for path in chosen)
    masks = [read_any_mask(path) for path in chosen]
    if any(mask.shape[2] == 3 for mask in masks):
        masks = [np.repeat(m, 3, axis=2) if m.shape[2] == 1 else m for m in masks]
    tally = _Tally(Counter(), Counter(), Counter())
    for mask in masks:
        _count(mask, JPEG_TOLERANCE if lossy else 0, tally)
    return _judged(tally, lossy=lossy)


def read_any_mask(path: Path) -> NDArray[np.uint16]:
    """Read a mask however it is stored, ``[H, W, 1 or 3]``.

    A constant alpha is dropped, three equal channels are one (JPEG: nearly equal), 16-bit colours
    are brought to 8 bits, and fractions 0..1 to 0..255.

    Raises:
        ImageError: the file does not decode.
    """
    if is_jpeg(path):
        stored = read_image(path, max_pixels=MAX_PIXELS).pixels_hwc
    else:
        stored = read_mask(path)
    if stored.ndim == 2:
        stored = stored[..., None]
    if stored.dtype.kind == "f":
        values = np.nan_to_num(stored.astype(np.float64))
        whole = bool((values == np.round(values)).all())
        stored = np.round(values if whole else values * 255)
    whole_hwc: NDArray[np.int64] = np.clip(stored.astype(np.int64), 0, 65535)
    if whole_hwc.shape[2] in (2, 4):
        whole_hwc = whole_hwc[..., :-1]
    if whole_hwc.shape[2] != 3:
        return whole_hwc[..., :1].astype(np.uint16)
    spread = int((whole_hwc.max(axis=2) - whole_hwc.min(axis=2)).max())
    if spread <= (JPEG_TOLERANCE if is_jpeg(path) else 0):
        return whole_hwc[..., :1].astype(np.uint16)
    if whole_hwc.max() > 255:
        whole_hwc = whole_hwc >> 8
    return whole_hwc.astype(np.uint16)


def to_class_indices(mask_hwc: NDArray[np.uint16], coding: Coding) -> NDArray[np.uint8]:
    """Return class indices ``[H, W]``: each pixel's nearest level; for instances 0 and 1.

    A middle level is doubtful on an edge between a lower and a higher one, where blending gives
    the same value: there the pixel goes to the level that fills more of its surroundings.
    """
    if coding.coloured and mask_hwc.shape[2] == 1:
        mask_hwc = np.repeat(mask_hwc, 3, axis=2)
    if coding.kind == "instances":
        background = np.array(coding.levels[0], dtype=np.int64)
        objects: NDArray[np.uint8] = (mask_hwc != background).any(axis=2).astype(np.uint8)
        return objects
    levels = np.array(coding.levels, dtype=np.float32)
    nearest = np.zeros(mask_hwc.shape[:2], dtype=np.uint8)
    least = np.full(mask_hwc.shape[:2], np.inf, dtype=np.float32)
    for index, level in enumerate(levels):
        distance = np.abs(mask_hwc.astype(np.float32) - level).sum(axis=2)
        closer = distance < least
        nearest[closer], least[closer] = index, distance[closer]
    if coding.kind == "blended":
        _settle_edges(nearest, levels)
    return nearest


def _settle_edges(nearest_hw: NDArray[np.uint8], levels: NDArray[np.float32]) -> None:
    """Undo, in place, the rims of a middle level between a lower and a higher one."""
    sure = [
        cv2.erode((nearest_hw == index).astype(np.uint8), np.ones((3, 3), np.uint8))
        for index in range(len(levels))
    ]
    filled = [cv2.boxFilter(plane.astype(np.float32), -1, (7, 7)) for plane in sure]
    near = [cv2.dilate(plane, BESIDE) > 0 for plane in sure]
    for middle in range(len(levels)):
        for low in range(len(levels)):
            for high in range(low + 1, len(levels)):
                if middle in (low, high) or not _lies_between(*levels[[middle, low, high]]):
                    continue
                rim = (nearest_hw == middle) & ~near[middle] & near[low] & near[high]
                nearest_hw[rim] = np.where(filled[low] >= filled[high], low, high)[rim]


def _lies_between(
    middle: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> bool:
    way = high - low
    share = float((middle - low) @ way / (way @ way))
    off = np.abs(low + share * way - middle).max()
    return 0 < share < 1 and bool(off <= 2 * MERGED_WITHIN)


def _count(mask_hwc: NDArray[np.uint16], tolerance: int, tally: _Tally) -> None:
    """Add how often each value occurs, in areas, and strictly between its neighbours."""
    small = np.ones((3, 3), np.uint8)
    flat = np.ones(mask_hwc.shape[:2], dtype=bool)
    between = np.zeros(mask_hwc.shape[:2], dtype=bool)
    for channel in range(mask_hwc.shape[2]):
        plane = np.ascontiguousarray(mask_hwc[..., channel])
        flat &= cv2.dilate(plane, small).astype(int) - cv2.erode(plane, small) <= tolerance
        between |= (cv2.erode(plane, BESIDE).astype(int) < plane.astype(int) - tolerance) & (
            plane.astype(int) + tolerance < cv2.dilate(plane, BESIDE)
        )
    for counter, chosen in (
        (tally.total, mask_hwc.reshape(-1, mask_hwc.shape[2])),
        (tally.flat, mask_hwc[flat]),
        (tally.between, mask_hwc[between & ~flat]),
    ):
        values, counts = np.unique(chosen, axis=0, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            counter[tuple(value)] += count


def _judged(tally: _Tally, *, lossy: bool) -> Coding | None:
    pixels, flat_pixels = sum(tally.total.values()), sum(tally.flat.values())
    levels = [
        value
        for value, count in tally.total.items()
        if tally.flat[value] >= LEAST_AREA_PX
        or (not lossy and count >= LEAST_AREA_PX and 2 * tally.between[value] <= count)
    ]
    if not levels:
        return Coding("picture", ((0,),), (1.0,)) if len(tally.total) > 2 else None
    beside = max(pixels - flat_pixels, 1)
    blended = (
        sum(tally.total.values()) - sum(tally.total[v] for v in levels) > MOST_BLENDED * beside
    )
    if flat_pixels < LEAST_FLAT * pixels and len(tally.total) > MOST_INFERRED_CLASSES:
        return Coding("picture", ((0,),), (1.0,))
    if blended or lossy:
        levels = _merged(levels, tally, max(LEAST_AREA_PX, LEAST_FLAT_SHARE * flat_pixels))
    if len(levels) < 2:
        return None
    held = {value: tally.total[value] for value in levels}
    black = (0,) * len(levels[0])
    background = black if black in held else max(levels, key=held.__getitem__)
    ordered = [background, *sorted(value for value in levels if value != background)]
    shares = tuple(held[value] / sum(held.values()) for value in ordered)
    kind: CodingKind = "blended" if blended or lossy else "values"
    if len(levels) > MOST_INFERRED_CLASSES:
        kind = "instances"
    return Coding(kind, tuple(ordered), shares)


def _merged(levels: Sequence[Level], tally: _Tally, least: float) -> list[Level]:
    """Keep of values that lie close together the one that fills most."""
    kept: list[Level] = []
    for value in sorted(levels, key=lambda v: (-tally.flat[v], v)):
        apart = [max(abs(a - b) for a, b in zip(value, other, strict=True)) for other in kept]
        if min(apart, default=256) > MERGED_WITHIN and tally.flat[value] >= least:
            kept.append(value)
    return kept
