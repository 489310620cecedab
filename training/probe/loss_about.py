"""The loss about a trained net's weights: on random lines and on the plane of two of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from contract.statistics import image_statistics
from training.fit.config import LossConfig
from training.fit.losses import build_loss
from training.probe.directions import filter_normalised, moved
from training.probe.probed import Probed

# Steps whose rise is a headline figure.
TOLD_AT = (0.25, 0.5, 1.0)
# Rounding in float32 bends a flat floor by less than this.
FLAT = 1e-5


Crop = tuple[Tensor, Tensor, Tensor]
"""Image ``[n, C, h, w]``, statistics ``[n, C, 2]``, mask ``[n, h, w]`` or ``[n, K, h, w]``."""


@dataclass(frozen=True, eq=False)
class Landscape:
    """What was seen of one net.

    Attributes:
        net: its name.
        steps: distances, from -radius to radius, 0 in the middle.
        lines: loss ``[lines, steps]``.
        plane: loss ``[y, x]``.
    """

    net: str
    steps: NDArray[np.float64]
    lines: NDArray[np.float64]
    plane: NDArray[np.float64]


def fixed_batch(net: Probed, *, crops: int, crop_px: int) -> list[Crop]:
    """Return crops about seeded foreground pixels, the same for every net on these images.

    They are one batch; images of nets with a working size are taken whole, each by itself.
    """
    random = np.random.default_rng(net.seed)
    count = min(crops, len(net.stems))
    places = sorted(random.choice(len(net.stems), count, replace=False))
    images = [net.image(net.stems[place]) for place in places]
    whole = net.description.working_size is not None
    height, width = (
        min(crop_px, *(image.image_chw.shape[axis] for image in images)) for axis in (1, 2)
    )
    parts = []
    for image in images:
        truth, pixels = image.truth, image.image_chw
        statistics = image_statistics(pixels).astype(np.float32)
        if not whole:
            top, left = _corner(truth, net.foreground, (height, width), random)
            window = (..., slice(top, top + height), slice(left, left + width))
            pixels, truth = pixels[window], truth[window]
        arrays = (pixels, statistics, truth)
        parts.append([torch.from_numpy(np.ascontiguousarray(a)).to(net.device) for a in arrays])
    if whole:
        return [(p[None], s[None], t[None]) for p, s, t in parts]
    stacked = [torch.stack(same) for same in zip(*parts, strict=True)]
    return [(stacked[0], stacked[1], stacked[2])]


def _corner(
    truth: NDArray[np.uint8],
    foreground: range,
    size_hw: tuple[int, int],
    random: np.random.Generator,
) -> tuple[int, int]:
    present = truth == 1 if truth.ndim == 3 else np.isin(truth, foreground)
    found = np.argwhere(present.any(axis=0) if truth.ndim == 3 else present)
    limits = [n - side for n, side in zip(truth.shape[-2:], size_hw, strict=True)]
    if not len(found):
        return int(random.integers(limits[0] + 1)), int(random.integers(limits[1] + 1))
    middle = found[int(random.integers(len(found)))]
    top, left = (
        int(np.clip(m - side // 2, 0, limit))
        for m, side, limit in zip(middle, size_hw, limits, strict=True)
    )
    return top, left


def look_about(
    net: Probed, batch: Sequence[Crop], points: int, lines: int, radius: float, loss: LossConfig
) -> Landscape:
    """Take the loss on the lines and on the plane; the net is left as it was."""
    description = net.description
    loss_of = build_loss(loss, task=description.task, classes=len(description.classes))
    loss_of.to(net.device)
    steps = np.linspace(-radius, radius, points)
    graph, inner = net.graph, net.graph.net

    def value() -> float:
        with torch.inference_mode():
            losses = [loss_of(graph.logits(image, s), mask) for image, s, mask in batch]
            return float(torch.stack(losses).mean())

    # The first two lines span the plane.
    directions = [
        filter_normalised(inner, seed=net.seed + number) for number in range(max(lines, 2))
    ]
    on_lines = np.zeros((lines, points))
    on_plane = np.zeros((points, points))
    with tqdm(
        total=points * (lines + points), desc=f"looking about {net.name}", unit="loss", disable=None
    ) as progress:
        for line, column in np.ndindex(on_lines.shape):
            with moved(inner, (float(steps[column]), directions[line])):
                on_lines[line, column] = value()
            progress.update()
        for row, column in np.ndindex(on_plane.shape):
            across, up = float(steps[column]), float(steps[row])
            with moved(inner, (across, directions[0]), (up, directions[1])):
                on_plane[row, column] = value()
            progress.update()
    return Landscape(net.name, steps, on_lines, on_plane)


def headline(seen: Landscape) -> dict[str, float]:
    """Return loss, rises and the convex share of one landscape."""
    middle = len(seen.steps) // 2
    floor = float(seen.plane[middle, middle])
    found = {"loss_at_0": floor}
    for step in TOLD_AT:
        if step <= seen.steps[-1]:
            ends = [
                np.interp(sign * step, seen.steps, line) for line in seen.lines for sign in (-1, 1)
            ]
            found[f"rise_at_{step:g}"] = float(np.mean(ends)) - floor
    return {**found, "convex_share": convex_share(seen.plane)}


def convex_share(plane: NDArray[np.float64]) -> float:
    """Return the share of inner points whose discrete 2 x 2 Hessian has no negative eigenvalue."""
    z = plane
    xx = z[1:-1, 2:] - 2 * z[1:-1, 1:-1] + z[1:-1, :-2]
    yy = z[2:, 1:-1] - 2 * z[1:-1, 1:-1] + z[:-2, 1:-1]
    xy = (z[2:, 2:] - z[2:, :-2] - z[:-2, 2:] + z[:-2, :-2]) / 4
    least = (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)
    known = np.isfinite(least)
    return float(np.mean(least[known] >= -FLAT)) if known.any() else math.nan
