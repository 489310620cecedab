"""Outlines of a mask along pixel edges: exact, with holes, as rings of corner points.

Each boundary is first cut into straight runs with array operations; only the runs, of which
there are as many as corners, are then chained in Python.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ring = list[list[int]]
"""Corner points ``[x, y]`` in pixels; the first stands again at the end."""


class _Runs(NamedTuple):
    """Straight boundary runs of one direction; the mask lies to the right, walking along."""

    x1: npt.NDArray[np.intp]
    y1: npt.NDArray[np.intp]
    x2: npt.NDArray[np.intp]
    y2: npt.NDArray[np.intp]
    owner: npt.NDArray[np.intp]
    """Number in the flattened mask of a pixel that the run bounds."""


class Outline(NamedTuple):
    """One closed ring.

    Attributes:
        ring: Its corners; clockwise on the screen around the outside, the other way round holes.
        area_px: Enclosed area; negative for a hole.
        pixel_yx: A pixel of the mask that the ring bounds.
    """

    ring: Ring
    area_px: int
    pixel_yx: tuple[int, int]


def trace_outlines(mask_hw: npt.NDArray[np.bool_]) -> list[Outline]:
    """Return every outline of a mask; pixel (y, x) covers the square from (x, y) to (x+1, y+1).

    Where two pixels touch at a corner only, the outline stays with each of them, and no ring
    passes a point twice, so polygons built of the rings are valid (OGC simple features).
    """
    width_px = mask_hw.shape[1]
    runs = _boundary_runs(mask_hw)
    successors = _successors(runs, width_px + 1)
    x1, y1, _, y2, owners = (np.concatenate(column) for column in zip(*runs, strict=True))
    points = np.stack([x1, y1], axis=1).tolist()
    # A ring's area is the sum of x dy over its runs (Green's theorem).
    sweeps_px = (x1 * (y2 - y1)).tolist()
    vertices = (y1 * (width_px + 1) + x1).tolist()
    owner_yx = np.stack(np.divmod(owners, width_px), axis=1).tolist()

    outlines: list[Outline] = []
    seen = bytearray(len(successors))
    for first in range(len(successors)):
        if seen[first]:
            continue
        loop = []
        run = first
        while not seen[run]:
            seen[run] = 1
            loop.append(run)
            run = successors[run]
        for simple in _split_at_repeats(loop, vertices):
            ring = [points[run] for run in simple]
            ring.append(ring[0])
            area_px = sum(sweeps_px[run] for run in simple)
            y, x = owner_yx[simple[0]]
            outlines.append(Outline(ring, area_px, (y, x)))
    return outlines


def _boundary_runs(mask_hw: npt.NDArray[np.bool_]) -> tuple[_Runs, _Runs, _Runs, _Runs]:
    """Return the top (→), right (↓), bottom (←) and left (↑) runs."""
    height_px, width_px = mask_hw.shape
    padded = np.zeros((height_px + 2, width_px + 2), np.bool_)
    padded[1:-1, 1:-1] = mask_hw
    inside = padded[1:-1, 1:-1]
    y, x1, x2 = _spans(inside & ~padded[:-2, 1:-1])
    top = _Runs(x1, y, x2, y, y * width_px + x1)
    y, x1, x2 = _spans(inside & ~padded[2:, 1:-1])
    bottom = _Runs(x2, y + 1, x1, y + 1, y * width_px + x1)
    x, y1, y2 = _spans((inside & ~padded[1:-1, 2:]).T)
    right = _Runs(x + 1, y1, x + 1, y2, y1 * width_px + x)
    x, y1, y2 = _spans((inside & ~padded[1:-1, :-2]).T)
    left = _Runs(x, y2, x, y1, y1 * width_px + x)
    return top, right, bottom, left


def _spans(
    edges: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return row, first and past-the-last column of each stretch of set values in a row."""
    position = np.flatnonzero(edges)
    row, column = np.divmod(position, edges.shape[1])
    # A stretch begins where the position jumps or a row does.
    begins = np.ones(len(position), np.bool_)
    begins[1:] = (np.diff(position) != 1) | (np.diff(row) != 0)
    ends = np.roll(begins, -1)
    return row[begins], column[begins], column[ends] + 1


def _successors(runs: tuple[_Runs, _Runs, _Runs, _Runs], stride: int) -> list[int]:
    """Return for each run, numbered through all directions, the run that goes on at its end.

    At a vertex where two outlines meet, turning right stays with the same pixel; a run to the
    right exists there in each convex corner, so it goes before a run to the left.
    """
    numbers = np.cumsum([0, *(len(run.x1) for run in runs)])
    starts = [run.y1 * stride + run.x1 for run in runs]
    successors = []
    for direction, run in enumerate(runs):
        end = run.y2 * stride + run.x2
        successor = np.full(len(end), -1, np.intp)
        for turn_left_then_right in (3, 1):
            following = (direction + turn_left_then_right) % 4
            order = np.argsort(starts[following])
            known = starts[following][order]
            place = np.minimum(np.searchsorted(known, end), len(known) - 1)
            found = known[place] == end
            successor[found] = order[place[found]] + numbers[following]
        successors.append(successor)
    numbered: list[int] = np.concatenate(successors).tolist()
    return numbered


def _split_at_repeats(loop: list[int], vertices: list[int]) -> list[list[int]]:
    """Cut a loop of runs that begins at a vertex twice into loops that do not."""
    if len({vertices[run] for run in loop}) == len(loop):
        return [loop]
    simple: list[list[int]] = []
    path: list[int] = []
    position: dict[int, int] = {}
    for run in loop:
        cut = position.get(vertices[run])
        if cut is not None:
            simple.append(path[cut:])
            for passed in path[cut:]:
                del position[vertices[passed]]
            del path[cut:]
        position[vertices[run]] = len(path)
        path.append(run)
    return [*simple, path]
