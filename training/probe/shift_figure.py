"""The figure of the probe ``shift``, drawn from its rows; see ``rows.read_rows``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from training.probe.corrupt import UNITS
from training.probe.shift_row import CrossingRow, ShiftRow
from training.report.figure import COLOURS, canvas, save_figure, style


def draw_shift(curves: Sequence[ShiftRow], crossings: Sequence[CrossingRow], folder: Path) -> None:
    """Draw ``shift``: a panel per kind, a curve per net, and where they cross."""
    kinds = list(dict.fromkeys(row.kind for row in curves))
    columns = min(2, len(kinds))
    rows = -(-len(kinds) // columns)
    with style():
        figure, axes = canvas(columns, rows=rows, height_in=0.1 + 2.5 * rows)
        for panel in axes[len(kinds) :]:
            panel.set_visible(False)
        for place, (panel, kind) in enumerate(zip(axes, kinds, strict=False)):
            _draw_curves(panel, [row for row in curves if row.kind == kind])
            of_kind = [row for row in crossings if row.kind == kind]
            _mark_crossings(panel, of_kind)
            said = _said(of_kind)
            panel.set_title(f"{kind}: {said}" if said else kind)
            panel.set(xlabel=UNITS[kind], ylabel="Dice", ylim=(-0.02, 1.0))
            if place == 0 and panel.get_legend_handles_labels()[0]:
                panel.legend(loc="lower left")
        save_figure(figure, folder, "shift")


def _draw_curves(axes: Axes, rows: Sequence[ShiftRow]) -> None:
    nets = list(dict.fromkeys(row.net for row in rows))
    for place, net in enumerate(nets):
        colour = COLOURS[place % len(COLOURS)]
        known = [row for row in rows if row.net == net and row.dice is not None]
        axes.plot(
            [row.strength for row in known],
            [row.dice or 0.0 for row in known],
            "o-",
            color=colour,
            markersize=3.5,
            label=net,
        )
        spread = [(r.strength, r.ci95_low, r.ci95_high) for r in known if r.ci95_low is not None]
        ends = np.array(spread, dtype=np.float64).reshape(-1, 3).T
        axes.fill_between(*ends, color=colour, alpha=0.15, linewidth=0)


def _mark_crossings(axes: Axes, rows: Sequence[CrossingRow]) -> None:
    for row in rows:
        if row.crosses_at is None:
            continue
        axes.axvline(row.crosses_at, color="#57606a", linewidth=1.0, linestyle="--")
        if row.ci95_low is not None and row.ci95_high is not None:
            axes.axvspan(row.ci95_low, row.ci95_high, color="#57606a", alpha=0.1, linewidth=0)


def _said(rows: Sequence[CrossingRow]) -> str:
    if not rows:
        return ""
    if len(rows) > 1:
        count = sum(row.crosses_at is not None for row in rows)
        return f"{count} of {len(rows)} cross the first"
    (row,) = rows
    return "do not cross" if row.crosses_at is None else f"cross at {row.crosses_at:.2f}"
