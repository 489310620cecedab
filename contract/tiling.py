"""Cut a large image into overlapping tiles and blend their probabilities.

Tiles are weighted by a Gaussian with sigma = patch / 8 (nnU-Net, Isensee 2021), because a net
sees least context at a tile's border. The weights are the product of one factor per axis and
already divided by their sum over all tiles, so a blend is a plain sum and needs no second pass.

The image is worked off in rows of tiles. What lies above the next row of tiles is final and is
handed out, so memory is bounded by one band (patch height x image width), not by the image.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.spec import Tiles

RunTile = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Raw intensities ``[C, h, w]`` to probabilities ``[K, h, w]``."""

Progress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""


@dataclass(frozen=True)
class AxisPlan:
    """The tiles along one axis: all have length ``patch`` and together they cover ``size``."""

    size: int
    patch: int
    starts: tuple[int, ...]

    def weights(self) -> list[NDArray[np.float32]]:
        """Return one weight vector ``[patch]`` per tile; at each pixel they sum to 1."""
        offsets = np.arange(self.patch, dtype=np.float64) - (self.patch - 1) / 2
        bell = np.exp(-0.5 * np.square(offsets / (self.patch / 8)))
        total = np.zeros(self.size)
        for start in self.starts:
            total[start : start + self.patch] += bell
        return [
            (bell / total[start : start + self.patch]).astype(np.float32) for start in self.starts
        ]


def plan_axis(size: int, patch: int, overlap: float) -> AxisPlan:
    """Place tiles along one axis.

    The last tile is shifted inwards, so that every tile has the full patch length; an axis
    shorter than the patch gets one tile of its own length.

    Args:
        size: pixels along the axis, >= 1.
        patch: pixels of one tile, >= 1.
        overlap: least share of a tile that the next one covers again, in [0, 1).
    """
    if size <= patch:
        return AxisPlan(size=size, patch=size, starts=(0,))
    stride = max(1, math.floor(patch * (1 - overlap)))
    last = size - patch
    starts = (*range(0, last, stride), last)
    return AxisPlan(size=size, patch=patch, starts=starts)


def plan_tiles(size_hw: tuple[int, int], tiles: Tiles) -> tuple[AxisPlan, AxisPlan]:
    """Return the plans of rows and of columns; the tiles are all pairs of the two."""
    rows, columns = (
        plan_axis(size, patch, tiles.overlap)
        for size, patch in zip(size_hw, tiles.patch, strict=True)
    )
    return rows, columns


@dataclass(frozen=True)
class Band:
    """Finished rows: blended probabilities ``[K, rows, W]`` of image rows from ``top`` on.

    The array is a view that the next band overwrites.
    """

    top: int
    probabilities: NDArray[np.float32]


def blend_bands(
    image_chw: NDArray[Any],
    run_tile: RunTile,
    tiles: Tiles,
    *,
    n_classes: int,
    progress: Progress | None = None,
) -> Iterator[Band]:
    """Run the tiles and yield the blended probabilities band by band, from top to bottom.

    Args:
        image_chw: raw intensities of any type, ``[C, H, W]``.
        run_tile: the net; it must answer at the tile's own size.
        tiles: patch and overlap.
        n_classes: K, the channels of what ``run_tile`` answers.
        progress: called after each tile.
    """
    rows, columns = plan_tiles((image_chw.shape[1], image_chw.shape[2]), tiles)
    column_weights = columns.weights()
    tile_count = len(rows.starts) * len(columns.starts)
    done = 0
    band = np.zeros((n_classes, rows.patch, columns.size), dtype=np.float32)
    next_tops = (*rows.starts[1:], rows.size)
    for top, next_top, row_weights in zip(rows.starts, next_tops, rows.weights(), strict=True):
        for left, weights in zip(columns.starts, column_weights, strict=True):
            across = slice(left, left + columns.patch)
            tile_chw = image_chw[:, top : top + rows.patch, across]
            answer = run_tile(tile_chw.astype(np.float32, copy=False))
            weighted = answer * row_weights[:, None]
            weighted *= weights
            band[:, :, across] += weighted
            done += 1
            if progress is not None:
                progress(done, tile_count)
        finished = next_top - top
        yield Band(top=top, probabilities=band[:, :finished])
        kept = rows.patch - finished
        band[:, :kept] = band[:, finished:].copy()
        band[:, kept:] = 0
