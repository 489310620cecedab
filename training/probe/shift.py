"""Shift: how a net's Dice falls as its images differ more and more from those it was trained on.

Kamath 2023 found that long skips help where boundaries are fine and can hurt under texture shift:
on heart MRI a net without them fell from .833 to .761 where the U-Net fell from .901 to .077. So
two nets are held side by side at graded strengths, and where their curves cross is told with its
interval, or that they do not. What each strength means stands in ``corrupt.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.errors import RequestInvalid
from contract.metrics import summarise
from imaging.channels import to_chw_float32
from imaging.overlay import display_rgb
from training.data.masks import IGNORE
from training.probe.corrupt import KINDS, NoTexture, corrupt
from training.probe.crossing import Crossing, crossing
from training.probe.error_map import window_of
from training.probe.probed import Probed, ProbedImage, unlike
from training.probe.rows import write_rows
from training.probe.shift_figure import draw_shift
from training.probe.shift_row import CrossingRow, ShiftRow
from training.report.case_picture import plane_of
from training.report.figure import WIDTH_IN, canvas, save_figure, style

STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class ShiftCase:
    """One class of one image at one strength; ``dice`` is NaN where there is no score."""

    net: str
    kind: str
    strength: float
    stem: str
    class_name: str
    dice: float


def probe_shift(probed: Probed, folder: Path) -> dict[str, float]:
    """Shift the images of one net; see ``compare_shift``. The figures have no name before them."""
    found = compare_shift([probed], folder)
    return {key.removeprefix(f"{probed.name}."): value for key, value in found.items()}


def compare_shift(
    nets: Sequence[Probed],
    folder: Path,
    *,
    strengths: Sequence[float] = STRENGTHS,
    kinds: Sequence[str] | None = None,
) -> dict[str, float]:
    """Score each net on the same shifted images.

    Writes ``cases.csv``, ``curves.csv``, the figures ``shift`` and ``shift-examples``, and of
    several nets ``crossings.csv``: the first against each of the others.

    Args:
        nets: on the same images.
        folder: for all of it.
        strengths: rising from 0, at most 1.
        kinds: of ``corrupt.KINDS``; None: all, without ``contrast`` where every net normalises by
            the image's own statistics, which undoes it.

    Returns:
        ``<net>.<kind>.dice_at_1`` (the strongest), ``.dice_mean`` (over strengths), and of several
        nets ``<first>-<net>.<kind>.crosses_at`` where they do.
    """
    refused = unlike(nets)
    if refused is not None:
        raise RequestInvalid(refused)
    strengths = tuple(strengths)
    if len(strengths) < 2 or strengths[0] != 0 or list(strengths) != sorted(set(strengths)):
        raise RequestInvalid(f"strengths must rise from 0 to at most 1, got {strengths}")
    kinds = tuple(kinds) if kinds is not None else kinds_for(nets)
    cases = {net.name: shift(net, kinds, strengths) for net in nets}
    curves = [row for net in nets for row in _curves(net, cases[net.name], kinds, strengths)]
    crossings = [
        row for net in nets[1:] for row in _crossings(nets[0], net, cases, kinds, strengths)
    ]
    write_rows(folder / "cases.csv", [case for found in cases.values() for case in found])
    write_rows(folder / "curves.csv", curves)
    if crossings:
        write_rows(folder / "crossings.csv", crossings)
    draw_shift(curves, crossings, folder)
    _draw_examples(nets[0], kinds, folder)
    figures: dict[str, float] = {}
    for net in nets:
        for kind in kinds:
            curve = [row.dice for row in curves if (row.net, row.kind) == (net.name, kind)]
            known = [dice for dice in curve if dice is not None]
            if len(known) == len(strengths):
                figures[f"{net.name}.{kind}.dice_at_{strengths[-1]:g}"] = known[-1]
                figures[f"{net.name}.{kind}.dice_mean"] = float(np.mean(known))
    for row in crossings:
        if row.crosses_at is not None:
            figures[f"{row.net}-{row.other}.{row.kind}.crosses_at"] = row.crosses_at
    return figures


def shift(net: Probed, kinds: Sequence[str], strengths: Sequence[float]) -> list[ShiftCase]:
    """Score a net on its images at every strength; an image without a texture has NaN there."""
    cases = []
    for image in net.images("shifting the images of"):
        untouched = _dice(net, image, image.pixels_hwc)
        for kind in kinds:
            for strength in strengths:
                try:
                    shifted = shifted_pixels(net, image, kind, strength)
                    dice = untouched if strength == 0 else _dice(net, image, shifted)
                except NoTexture:
                    dice = dict.fromkeys(untouched, float("nan"))
                cases += [
                    ShiftCase(net.name, kind, strength, image.case.stem, name, value)
                    for name, value in dice.items()
                ]
    return cases


def shifted_pixels(
    net: Probed, image: ProbedImage, kind: str, strength: float
) -> NDArray[np.generic]:
    """Return an image of ``net`` shifted; the same for every net with its seed."""
    unknown = image.truth == IGNORE
    planes = [plane_of(image.truth, index) for index in net.foreground]
    return corrupt(
        image.pixels_hwc,
        kind,
        strength,
        foreground_hw=np.logical_or.reduce(planes),
        known_hw=~(unknown.any(axis=0) if unknown.ndim == 3 else unknown),
        stem=image.case.stem,
        seed=net.seed,
    )


def _dice(net: Probed, image: ProbedImage, pixels_hwc: NDArray[np.generic]) -> dict[str, float]:
    scores = net.score(net.answer(to_chw_float32(pixels_hwc)), image.truth)
    return {net.class_names[index]: scores[index].dice for index in net.foreground}


def kinds_for(nets: Sequence[Probed]) -> tuple[str, ...]:
    """Return the kinds of shift that at least one of the nets can see."""
    undone = all(net.description.normalising.kind == "image" for net in nets)
    return tuple(kind for kind in KINDS if not (undone and kind == "contrast"))


def _by_image(
    net: Probed, cases: Sequence[ShiftCase], kind: str, strengths: Sequence[float]
) -> NDArray[np.float64]:
    """Return Dice ``[images, strengths]``, the mean over the classes that have one."""
    dice = np.array([case.dice for case in cases if case.kind == kind])
    table = dice.reshape(len(net.stems), len(strengths), -1)
    scored = ~np.isnan(table)
    total = np.where(scored, table, 0).sum(axis=2)
    return np.where(scored.any(axis=2), total / np.maximum(scored.sum(axis=2), 1), np.nan)


def _curves(
    net: Probed, cases: Sequence[ShiftCase], kinds: Sequence[str], strengths: Sequence[float]
) -> list[ShiftRow]:
    rows = []
    for kind in kinds:
        table = _by_image(net, cases, kind, strengths)
        for strength, dice in zip(strengths, table.T, strict=True):
            found = summarise(dice, groups=net.groups, seed=net.seed)
            low, high = found.ci95 or (None, None)
            rows.append(ShiftRow(net.name, kind, strength, found.cases, found.mean, low, high))
    return rows


def _crossings(
    first: Probed,
    other: Probed,
    cases: dict[str, list[ShiftCase]],
    kinds: Sequence[str],
    strengths: Sequence[float],
) -> list[CrossingRow]:
    rows = []
    for kind in kinds:
        ours, others = (_by_image(n, cases[n.name], kind, strengths) for n in (first, other))
        differences = ours - others
        found: Crossing = crossing(strengths, differences, groups=first.groups, seed=first.seed)
        scored = differences[~np.isnan(differences).any(axis=1)]
        ahead = scored.mean(axis=0) if len(scored) else np.full(len(strengths), np.nan)
        low, high = found.ci95 or (None, None)
        rows.append(
            CrossingRow(
                net=first.name,
                other=other.name,
                kind=kind,
                crosses_at=found.at,
                ci95_low=low,
                ci95_high=high,
                resamples_that_cross=found.share,
                cases=found.cases,
                ahead_at_0=float(ahead[0]),
                ahead_at_end=float(ahead[-1]),
            )
        )
    return rows


def _draw_examples(net: Probed, kinds: Sequence[str], folder: Path) -> None:
    """Draw ``shift-examples``: one image, a row per kind, at a growing strength."""
    shown = (0.0, 0.4, 0.7, 1.0)
    image = net.image(net.stems[0])
    planes = [plane_of(image.truth, index) for index in net.foreground]
    window = window_of(np.sum(planes, axis=0))
    # One window for all, or each picture would be brightened by itself.
    low, high = np.percentile(image.image_chw[:, *window], (0.5, 99.5))
    high = max(high, low + 1e-6)
    with style():
        cell_in = 0.8 * WIDTH_IN / len(shown)
        figure, axes = canvas(
            len(shown), rows=len(kinds), height_in=0.2 + (cell_in + 0.2) * len(kinds)
        )
        for row, kind in enumerate(kinds):
            for column, strength in enumerate(shown):
                panel = axes[row * len(shown) + column]
                panel.set_axis_off()
                panel.set_title(f"{kind} {strength:g}", fontsize=8.5)
                try:
                    pixels = shifted_pixels(net, image, kind, strength)
                except NoTexture:
                    continue
                shares = np.clip((pixels[window].astype(np.float64) - low) / (high - low), 0, 1)
                picture = display_rgb(np.rint(255 * shares).astype(np.uint8))
                panel.imshow(picture, interpolation="nearest")
        save_figure(figure, folder, "shift-examples")
