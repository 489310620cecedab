"""The figure of the probe ``lesion``, drawn from its rows; see ``rows.read_rows``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from training.probe.lesion_row import LesionRow
from training.report.figure import COLOURS, GREY, canvas, save_figure, style


def draw_lesion(rows_of_all: Sequence[LesionRow], folder: Path) -> None:
    """Draw ``lesion``: a row per net, long skips turned down and what each part is worth.

    Nets of which nothing was taken are left out.
    """
    rows: dict[str, list[LesionRow]] = {}
    for row in rows_of_all:
        rows.setdefault(row.net, []).append(row)
    rows = {net: found for net, found in rows.items() if any(row.kind != "none" for row in found)}
    gone = {name: [r for r in found if r.gain == 0] for name, found in rows.items()}
    targets = max(len({row.target for row in found}) for found in gone.values())
    classes = len({row.class_name for found in rows.values() for row in found})
    with style():
        # A line of text for each part, or more where classes stand one below the other.
        height = 0.75 + targets * max(0.21, 0.11 * classes)
        figure, axes = canvas(2, rows=len(rows), height_in=max(2.3, height) * len(rows))
        for name, turned, dropped in zip(rows, axes[::2], axes[1::2], strict=True):
            _draw_gains(turned, rows[name])
            _draw_losses(dropped, gone[name])
            none = not any(row.kind == "long skip" for row in rows[name])
            turned.set_title(f"{name}: " + ("no long skip" if none else "long skips turned down"))
            dropped.set_title(f"{name}: what each part is worth")
        save_figure(figure, folder, "lesion")


def _draw_gains(axes: Axes, rows: Sequence[LesionRow]) -> None:
    """Draw Dice, the mean over classes, by the gain of each long skip."""
    by_target: dict[str, dict[float, list[float]]] = {}
    whole = [row.dice for row in rows if row.kind == "none" and row.dice is not None]
    for row in rows:
        if row.kind == "long skip" and row.dice is not None:
            by_target.setdefault(row.target, {1.0: whole}).setdefault(row.gain, []).append(row.dice)
    for place, (target, dice) in enumerate(by_target.items()):
        gains = sorted(dice)
        every = target == "all skips"
        axes.plot(
            gains,
            [np.mean(dice[gain]) for gain in gains],
            "o--" if every else "o-",
            color=GREY if every else COLOURS[place % len(COLOURS)],
            markersize=3.5,
            label=target,
        )
    axes.set(xlabel="gain: 0 gone, 1 whole", ylabel="Dice")
    if by_target:
        axes.legend(title="level 0 is the finest", title_fontsize=8)
    else:
        axes.set_axis_off()


def _draw_losses(axes: Axes, rows: Sequence[LesionRow]) -> None:
    """Draw the Dice that is lost where a part is gone, with its interval, class by class."""
    targets = list(dict.fromkeys(row.target for row in rows))
    classes = list(dict.fromkeys(row.class_name for row in rows))
    for place, class_name in enumerate(classes):
        apart = 0.0 if len(classes) == 1 else 0.5 * (place / (len(classes) - 1) - 0.5)
        known = [r for r in rows if r.class_name == class_name and r.dice_lost is not None]
        lost = np.array([r.dice_lost for r in known], dtype=np.float64)
        ends = np.array([[r.ci95_low, r.ci95_high] for r in known], dtype=np.float64)
        error = np.nan_to_num(np.abs(ends.reshape(-1, 2).T - lost))
        axes.errorbar(
            lost,
            [targets.index(r.target) + apart for r in known],
            xerr=error,
            fmt="o",
            color=COLOURS[place % len(COLOURS)],
            markersize=4,
            capsize=2,
            label=class_name,
        )
    axes.axvline(0, color="#57606a", linewidth=0.9)
    axes.set_yticks(range(len(targets)), targets, fontsize=7.5)
    axes.set_ylim(len(targets) - 0.5, -0.5)
    axes.set_xlabel("Dice lost when it is gone")
    if len(classes) > 1:
        axes.legend(loc="best")
