"""The same or nearly the same picture more than once, and whether its masks agree.

Two stages. A perceptual hash, the 32 x 32 thumbnail without its slow changes of brightness,
proposes pairs in any of the eight turns and mirrorings. Each pair is then compared at full size:
the correlation of what is finer than a few pixels, in each tile that has any. Images of one
stain, or neighbouring slices, are alike in the coarse only; a copy that was compressed, resized or
brightened is alike in the fine too.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.decode import read_image
from training.data.case import Case
from training.data.check import MAX_PIXELS
from training.data.folder import load_mask
from training.data.glance import Glance, grey_of, meaningful_channels
from training.data.masks import IGNORE
from training.data.spec import DatasetSpec

PROPOSED_FROM = 0.80
# Of 299 blood cells, three that were photographed twice have 0.86 to 0.92, the most alike of the
# others 0.71; copies as JPEG of quality 60 have 0.86 and more in X-rays, 0.96 in blood cells.
COPY_FROM = 0.80
COARSE_SIGMA_PX = 4.0
FINE_SIGMA_PX = 1.0
# A picture without structure is like every other one without; 8-bit noise alone reaches this.
LEAST_CONTRAST = 1e-3
BLOCK = 1024
TILES = 8
GREY_HELD = 16

Turn = Callable[[NDArray[np.generic]], NDArray[np.generic]]
TURNS: dict[str, Turn] = {
    "": lambda a: a,
    "turned by 90°": lambda a: np.rot90(a, 1),
    "turned by 180°": lambda a: np.rot90(a, 2),
    "turned by 270°": lambda a: np.rot90(a, 3),
    "mirrored left to right": lambda a: a[:, ::-1],
    "mirrored top to bottom": lambda a: a[::-1],
    "transposed": lambda a: np.swapaxes(a, 0, 1),
    "transposed and turned by 180°": lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
}


@dataclass(frozen=True)
class Pair:
    """Two pictures that are alike.

    Attributes:
        first: index of a case.
        second: index of a later case.
        turn: what turns the second into the first; empty: nothing.
        correlation: of the fine structure, 1 for equal pixels.
        equal: the pixels are the same.
        mask_dice: of the two masks, mean over the classes that either holds; None where they
            cannot be compared.
    """

    first: int
    second: int
    turn: str
    correlation: float
    equal: bool
    mask_dice: float | None


def find_pairs_alike(
    cases: Sequence[Case],
    glances: Sequence[Glance | None],
    spec: DatasetSpec,
    *,
    masks_readable: Sequence[bool],
    shown: Callable[[Iterable[tuple[int, int, str]], int], Iterable[tuple[int, int, str]]],
) -> list[Pair]:
    """Find all pairs; of many equal pictures each is paired with the first.

    Args:
        cases: all of the set.
        glances: what was seen of each case's image; None where it could not be read.
        spec: the masks' meaning.
        masks_readable: whether each case's mask has no fault.
        shown: wraps the comparisons, to show progress.
    """
    first_of: dict[str, int] = {}
    equal: list[tuple[int, int]] = []
    for index, glance in enumerate(glances):
        if glance is None or glance.low == glance.high:
            continue
        first = first_of.setdefault(glance.digest, index)
        if first != index:
            equal.append((first, index))
    unique = sorted(first_of.values())
    grey = lru_cache(GREY_HELD)(lambda index: _grey(cases[index]))
    # By the first, which then stays decoded.
    proposed = sorted(_proposed(unique, [g.thumb_hw for i in unique if (g := glances[i])]))
    pairs = []
    for first, second in equal:
        pairs.append(Pair(first, second, "", 1.0, True, None))
    for first, second, turn in shown(proposed, len(proposed)):
        found = fine_correlation(
            grey(first), np.ascontiguousarray(TURNS[turn](grey(second)), dtype=np.float32)
        )
        if found >= COPY_FROM:
            pairs.append(Pair(first, second, turn, found, False, None))
    best: dict[tuple[int, int], Pair] = {}
    for pair in pairs:
        held = best.get((pair.first, pair.second))
        if held is None or pair.correlation > held.correlation:
            best[(pair.first, pair.second)] = pair
    return [
        _with_dice(pair, cases, spec)
        if masks_readable[pair.first] and masks_readable[pair.second]
        else pair
        for pair in sorted(best.values(), key=lambda p: (p.first, p.second))
    ]


def _proposed(
    indices: Sequence[int], thumbs: Sequence[NDArray[np.float32]]
) -> Iterator[tuple[int, int, str]]:
    """Yield pairs whose thumbnails correlate, with the turn of the second."""
    if not indices:
        return
    places = np.array(indices)
    plain = np.stack([_hash(thumb) for thumb in thumbs])  # [n, 1024]
    side = thumbs[0].shape[0]
    for name, turn in TURNS.items():
        turned: NDArray[np.float32] = np.stack(
            [turn(row.reshape(side, side)).reshape(-1).astype(np.float32) for row in plain]
        )
        for start in range(0, len(plain), BLOCK):
            block = plain[start : start + BLOCK] @ turned.T
            rows, columns = np.nonzero(block >= PROPOSED_FROM)
            for row, column in zip(rows + start, columns, strict=True):
                if row < column:
                    yield int(places[row]), int(places[column]), name


def _hash(thumb_hw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the thumbnail without its coarse part, as a unit vector (0 where it is constant)."""
    coarse = cv2.GaussianBlur(thumb_hw, (0, 0), COARSE_SIGMA_PX)
    fine = (thumb_hw - coarse).reshape(-1)
    fine -= fine.mean()
    length = float(np.linalg.norm(fine))
    return fine / np.float32(length) if length > LEAST_CONTRAST else np.zeros_like(fine)


def fine_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return how alike the fine structure of two grey images ``[H, W]`` is, -1..1."""
    if one.shape != other.shape:
        height, width = (min(a, b) for a, b in zip(one.shape, other.shape, strict=True))
        shapes = [one.shape[0] / one.shape[1], other.shape[0] / other.shape[1]]
        if max(shapes) > 1.03 * min(shapes):
            return -1.0
        one, other = _resized(one, (height, width)), _resized(other, (height, width))
    return _correlation(_fine(one), _fine(other))


def _grey(case: Case) -> NDArray[np.float32]:
    pixels = read_image(case.image, max_pixels=MAX_PIXELS).pixels_hwc
    return grey_of(pixels[..., : meaningful_channels(pixels)])


def _resized(plane: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    resized: NDArray[np.float32] = cv2.resize(
        plane, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_AREA
    )
    return resized


def _fine(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what is between pixel noise and objects in size."""
    smooth = cv2.GaussianBlur(plane, (0, 0), FINE_SIGMA_PX)
    fine: NDArray[np.float32] = smooth - cv2.GaussianBlur(plane, (0, 0), COARSE_SIGMA_PX)
    return fine


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the correlation of each tile, weighted by the contrast that both have there.

    Over the whole at once, a scale bar or one bright object in the same place would outweigh
    everything else: the weight of a tile grows with its contrast, not with its square.
    """
    a, b = _tiles(one), _tiles(other)
    norms = [np.linalg.norm(tiles, axis=1) for tiles in (a, b)]
    weights = np.sqrt(norms[0] * norms[1])
    known = weights > LEAST_CONTRAST
    if not known.any():
        return 0.0
    return float(((a * b).sum(axis=1)[known] / weights[known]).sum() / weights[known].sum())


def _tiles(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the pixels of 8 x 8 tiles, each without its mean, ``[64, n]``; a rest is left out."""
    rows, columns = (min(TILES, side) for side in plane.shape)
    height, width = plane.shape[0] // rows, plane.shape[1] // columns
    cut = plane[: rows * height, : columns * width].reshape(rows, height, columns, width)
    tiles = cut.transpose(0, 2, 1, 3).reshape(rows * columns, height * width)
    without_mean: NDArray[np.float32] = tiles - tiles.mean(axis=1, keepdims=True)
    return without_mean


def _with_dice(pair: Pair, cases: Sequence[Case], spec: DatasetSpec) -> Pair:
    one, other = load_mask(cases[pair.first], spec), load_mask(cases[pair.second], spec)
    planes = [(one, other)] if one.ndim == 2 else list(zip(one, other, strict=True))
    turned = [(a, TURNS[pair.turn](b)) for a, b in planes]
    if any(a.shape != b.shape for a, b in turned):
        turned = [(a, _nearest(b, a.shape)) for a, b in turned]
    scores = []
    for a, b in turned:
        counts = (a != IGNORE) & (b != IGNORE)
        for index in np.union1d(np.unique(a[counts]), np.unique(b[counts])):
            if index == 0:
                continue
            mine, theirs = (a == index) & counts, (b == index) & counts
            scores.append(2 * (mine & theirs).sum() / (mine.sum() + theirs.sum()))
    dice = float(np.mean(scores)) if scores else 1.0
    return Pair(pair.first, pair.second, pair.turn, pair.correlation, pair.equal, dice)


def _nearest(mask: NDArray[np.generic], size_hw: tuple[int, ...]) -> NDArray[np.generic]:
    resized: NDArray[np.generic] = cv2.resize(
        np.ascontiguousarray(mask), (size_hw[1], size_hw[0]), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return resized
