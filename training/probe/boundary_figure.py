"""The figure of the probe ``boundary``, drawn from its rows; see ``rows.read_rows``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from contract.metrics import summarise
from training.probe.band_row import BandRow
from training.probe.bands import Band, dice_of, error_rate
from training.report.figure import COLOURS, canvas, save_figure, style


def draw_boundary(rows: Sequence[BandRow], folder: Path) -> None:
    """Draw ``boundary``: for each class the errors by distance, and Dice in a widening band.

    Lines are means over images, the areas about them their 95 % intervals.
    """
    names, unit = list(dict.fromkeys(row.class_name for row in rows)), rows[0].unit
    by_image: dict[tuple[str, str], dict[str, list[Band]]] = {}
    for row in rows:
        of_class = by_image.setdefault((row.class_name, row.net), {})
        of_class.setdefault(row.stem, []).append(row.band)
    nets = list(dict.fromkeys(row.net for row in rows))
    with style():
        figure, axes = canvas(2, rows=len(names), height_in=0.35 + 2.6 * len(names))
        for name, by_side, widening in zip(names, axes[::2], axes[1::2], strict=True):
            for place, net in enumerate(nets):
                bands = list(by_image[name, net].values())
                _draw_by_side(by_side, bands, COLOURS[place % len(COLOURS)], net)
                _draw_widening(widening, bands, COLOURS[place % len(COLOURS)], net)
            by_side.set(title=f"{name}: wrong pixels by distance", ylabel="share that is wrong")
            by_side.set_xlabel(f"inside   ←   {unit} from the true boundary   →   outside")
            by_side.set_ylim(bottom=0)
            by_side.axvline(len(bands[0]) / 2 - 0.5, color="#57606a", linewidth=0.9)
            widening.set(title=f"{name}: Dice near the boundary", ylabel="Dice")
            widening.set_xlabel(f"band of so many {unit} on either side")
            widening.set_ylim(top=1.0)
            if len(nets) > 1:
                widening.legend(loc="lower right")
        save_figure(figure, folder, "boundary")


def _draw_by_side(axes: Axes, bands: Sequence[list[Band]], colour: str, label: str) -> None:
    of_bin = list(zip(*bands, strict=True))  # inside from the boundary on, then outside
    half = len(of_bin) // 2
    of_bin = [*reversed(of_bin[:half]), *of_bin[half:]]
    rates = [[error_rate([band]) for band in same] for same in of_bin]
    _line(axes, range(len(rates)), rates, colour, label)
    axes.set_xticks(range(len(rates)), [_edge(same[0]) for same in of_bin], fontsize=7.5)
    axes.set_xlim(-0.5, len(rates) - 0.5)
    axes.grid(axis="x", visible=False)


def _draw_widening(axes: Axes, bands: Sequence[list[Band]], colour: str, label: str) -> None:
    reach = sorted({band.up_to for band in bands[0]})
    dice = [[dice_of([b for b in one if b.up_to <= most]) for one in bands] for most in reach]
    _line(axes, range(len(dice)), dice, colour, label)
    axes.set_xticks(
        range(len(reach)), [f"{r:g}" if np.isfinite(r) else "all" for r in reach], fontsize=7.5
    )
    axes.grid(axis="x", visible=False)


def _line(
    axes: Axes, places: range, values: Sequence[Sequence[float]], colour: str, label: str
) -> None:
    """Draw means over images with their 95 % intervals."""
    found = [summarise(v) for v in values]
    known = [(place, s) for place, s in zip(places, found, strict=True) if s.mean is not None]
    axes.plot(
        [place for place, _ in known],
        [s.mean or 0.0 for _, s in known],
        "o-",
        color=colour,
        label=label,
        markersize=3.5,
    )
    spread = [(place, s.ci95) for place, s in known if s.ci95 is not None]
    axes.fill_between(
        [place for place, _ in spread],
        [ci[0] for _, ci in spread],
        [ci[1] for _, ci in spread],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )


def _edge(band: Band) -> str:
    return f"{band.up_to:g}" if np.isfinite(band.up_to) else f">{band.above:g}"
