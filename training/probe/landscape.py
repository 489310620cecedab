"""Loss landscape: how the loss rises about a trained net's weights (Li 2018).

The loss of a fixed batch is taken along random filter-normalised directions (``directions.py``): on
several lines, and on one plane, all of them through the trained weights. Because every filter is
moved in proportion to its own length, the distances of two nets can be held side by side.

Norms run with the statistics that training left, in eval mode, as in Li's own code: what is looked
at is the net that would be exported. A step changes what the layers put out but not these
statistics, so part of the rise is their mismatch; group and instance norm have none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from contract.errors import RequestInvalid
from training.fit.config import LossConfig
from training.probe.loss_about import Landscape, fixed_batch, headline, look_about
from training.probe.probed import Probed, unlike
from training.probe.rows import write_rows
from training.report.figure import COLOURS, WIDTH_IN, canvas, save_figure, style

POINTS = 21
MOST_POINTS = 501  # a quarter of a million losses in the plane
LINES = 5
RADIUS = 1.0
CROPS = 8
CROP_PX = 96


@dataclass(frozen=True)
class LinePoint:
    """Loss at a distance along one random direction; 1 moves each filter by its own length."""

    net: str
    line: int
    distance: float
    loss: float


@dataclass(frozen=True)
class PlanePoint:
    """Loss at a place of the plane of two random directions."""

    net: str
    x: float
    y: float
    loss: float


def probe_landscape(probed: Probed, folder: Path, *, points: int = POINTS) -> dict[str, float]:
    """Look about one net; see ``compare_landscape``. The figures have no name before them."""
    found = compare_landscape([probed], folder, points=points)
    return {key.removeprefix(f"{probed.name}."): value for key, value in found.items()}


def compare_landscape(
    nets: Sequence[Probed],
    folder: Path,
    *,
    points: int = POINTS,
    lines: int = LINES,
    radius: float = RADIUS,
    crops: int = CROPS,
    crop_px: int = CROP_PX,
    loss: LossConfig | None = None,
) -> dict[str, float]:
    """Look about nets, with the same loss, crops and scale.

    Writes ``lines.csv``, ``plane.csv`` and the figures ``landscape-lines``, ``landscape-contour``
    and ``landscape-surface``.

    Args:
        nets: on the same images.
        folder: for all of it.
        points: along a line and each side of the plane, odd; the time grows with its square.
        lines: random directions.
        radius: how far to go on either side.
        crops: of as many images, as far as there are.
        crop_px: their side; nets of a working size get whole images.
        loss: the same for all nets, whatever they were trained with; None: Dice and cross-entropy,
            the default of ``fit``.

    Returns:
        By ``<net>.``: ``loss_at_0``; ``rise_at_<step>``, the mean over lines and both ways; and
        ``convex_share``, the share of the plane's inner points at which the loss bends upwards in
        every direction of the plane (both eigenvalues of the discrete Hessian at or above 0).
    """
    refused = unlike(nets)
    if refused is not None:
        raise RequestInvalid(refused)
    if not 5 <= points <= MOST_POINTS or points % 2 == 0:
        raise RequestInvalid(
            f"points (--grid) must be odd, since 0 is in the middle, and 5 to {MOST_POINTS}; got "
            f"{points}"
        )
    seen = []
    for net in nets:
        batch = fixed_batch(net, crops=crops, crop_px=crop_px)
        seen.append(look_about(net, batch, points, lines, radius, loss or LossConfig()))
    write_rows(folder / "lines.csv", [row for one in seen for row in _line_rows(one)])
    write_rows(folder / "plane.csv", [row for one in seen for row in _plane_rows(one)])
    draw_lines(seen, folder)
    draw_contour(seen, folder)
    draw_surface(seen, folder)
    return {f"{one.net}.{key}": value for one in seen for key, value in headline(one).items()}


def _line_rows(seen: Landscape) -> list[LinePoint]:
    return [
        LinePoint(seen.net, line, float(seen.steps[column]), float(seen.lines[line, column]))
        for line, column in np.ndindex(seen.lines.shape)
    ]


def _plane_rows(seen: Landscape) -> list[PlanePoint]:
    return [
        PlanePoint(
            seen.net,
            float(seen.steps[column]),
            float(seen.steps[row]),
            float(seen.plane[row, column]),
        )
        for row, column in np.ndindex(seen.plane.shape)
    ]


def landscapes_of(lines: Sequence[LinePoint], plane: Sequence[PlanePoint]) -> list[Landscape]:
    """Return the landscapes of each net, as ``lines.csv`` and ``plane.csv`` hold them."""
    found = []
    for net in dict.fromkeys(point.net for point in plane):
        of_net = [point.loss for point in plane if point.net == net]
        along = [point for point in lines if point.net == net]
        steps = np.array(sorted({point.distance for point in along}))
        on_lines = np.array([point.loss for point in along]).reshape(-1, len(steps))
        found.append(Landscape(net, steps, on_lines, np.array(of_net).reshape(2 * [len(steps)])))
    return found


def draw_lines(seen: Sequence[Landscape], folder: Path) -> None:
    """Draw the loss along each random direction, thin, and their mean, thick."""
    with style():
        figure, (axes,) = canvas(1, height_in=3.0)
        for place, one in enumerate(seen):
            colour = COLOURS[place % len(COLOURS)]
            axes.plot(one.steps, one.lines.T, color=colour, linewidth=0.7, alpha=0.45)
            axes.plot(one.steps, one.lines.mean(axis=0), color=colour, linewidth=2, label=one.net)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set(
            title=f"Loss along {len(seen[0].lines)} random directions",
            xlabel="distance: 1 moves every filter by its own length",
            ylabel="loss",
        )
        axes.legend()
        save_figure(figure, folder, "landscape-lines")


def _scale(seen: Sequence[Landscape]) -> tuple[float, float]:
    """Return the lowest and highest loss of all planes, which colours and heights share."""
    values = np.concatenate([one.plane[np.isfinite(one.plane)] for one in seen])
    low = max(float(values.min()), 1e-6)
    return low, max(float(values.max()), 1.01 * low)


def draw_contour(seen: Sequence[Landscape], folder: Path) -> None:
    """Draw each plane as contour lines over colours, on one logarithmic scale."""
    low, high = _scale(seen)
    levels = np.geomspace(low, high, 19)
    with style():
        columns = min(len(seen), 3)
        rows = -(-len(seen) // columns)
        side_in = WIDTH_IN / max(columns, 2)
        figure, axes = canvas(columns, rows=rows, height_in=rows * side_in * 0.95)
        for panel in axes[len(seen) :]:
            panel.set_visible(False)
        for panel, one in zip(axes, seen, strict=False):
            loss = np.clip(np.nan_to_num(one.plane, nan=high, posinf=high), low, high)
            grid = (one.steps, one.steps)
            filled = panel.contourf(
                *grid, loss, levels=levels, norm=LogNorm(low, high), cmap="viridis"
            )
            panel.contour(*grid, loss, levels=levels, colors="white", linewidths=0.5, alpha=0.7)
            panel.plot([0], [0], "+", color="white", markersize=9)
            panel.set(title=one.net, aspect="equal", xlabel="direction 1", ylabel="direction 2")
            panel.label_outer()
            panel.grid(visible=False)
        bar = figure.colorbar(filled, ax=axes[: len(seen)], shrink=0.85, label="loss")
        ticks = np.geomspace(low, high, 5)
        bar.set_ticks([float(tick) for tick in ticks], labels=[f"{tick:.2g}" for tick in ticks])
        bar.ax.minorticks_off()
        save_figure(figure, folder, "landscape-contour")


def draw_surface(seen: Sequence[Landscape], folder: Path) -> None:
    """Draw each plane as a surface, all of one height scale: the logarithm of the loss."""
    low, high = _scale(seen)
    with style():
        columns = min(len(seen), 3)
        rows = -(-len(seen) // columns)
        side_in = WIDTH_IN / max(columns, 2)
        figure = Figure(figsize=(WIDTH_IN, rows * side_in * 0.85), layout="constrained")
        for place, one in enumerate(seen):
            axes: Any = figure.add_subplot(rows, columns, place + 1, projection="3d")
            loss = np.clip(np.nan_to_num(one.plane, nan=high, posinf=high), low, high)
            x, y = np.meshgrid(one.steps, one.steps)
            axes.plot_surface(
                x,
                y,
                np.log10(loss),
                cmap="viridis",
                vmin=np.log10(low),
                vmax=np.log10(high),
                rcount=len(one.steps),
                ccount=len(one.steps),
                linewidth=0.15,
                edgecolor=(0, 0, 0, 0.25),
                antialiased=True,
            )
            axes.set_zlim(np.log10(low), np.log10(high))
            ticks = np.linspace(np.log10(low), np.log10(high), 4)
            axes.set_zticks(ticks, [f"{10**tick:.2g}" for tick in ticks], fontsize=7.5)
            ends = (float(one.steps[0]), 0.0, float(one.steps[-1]))
            axes.set(xticks=ends, yticks=ends, xlabel="direction 1", ylabel="direction 2")
            axes.tick_params(labelsize=7, pad=0)
            axes.xaxis.labelpad = axes.yaxis.labelpad = -3
            axes.set_title(f"{one.net}: loss", loc="center")
            axes.set_box_aspect((1, 1, 0.75), zoom=1.05)
        save_figure(figure, folder, "landscape-surface")
