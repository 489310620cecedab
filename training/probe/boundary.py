"""Boundary or body: where a net errs, by the distance to the true boundary.

"Long skips recover *where*" says that what they mend lies at boundaries. So errors are counted by
their distance to the true boundary of each class, inside and outside by themselves; what lies
within two pixels of it is called boundary, the rest body. Within a widening band about the
boundary the Dice is that of Kohli's trimap (Kohli 2009, section 6; there the share of wrong
pixels); ``boundary_f1`` is Csurka's (Csurka 2013, section 3): of the outline pixels of answer and
truth, the shares that lie within two pixels of the other's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.errors import RequestInvalid
from contract.measures import Ruler
from contract.metrics import summarise
from contract.surface import Mask, Spacing, outline_distances
from training.data.masks import IGNORE
from training.probe.band_row import BandRow
from training.probe.bands import (
    BIN_EDGES_PX,
    ROUNDING,
    Band,
    bands_of,
    dice_of,
    error_rate,
    signed_distance,
)
from training.probe.boundary_figure import draw_boundary
from training.probe.error_map import draw_error_maps
from training.probe.paired import PairedRow, paired_row
from training.probe.probed import Probed, ProbedImage, unlike
from training.probe.rows import write_rows
from training.report.case_picture import plane_of
from training.score.rulers import Rulers, rulers_for

NEAR_PX = 2.0
MEASURES = ("error_rate_near", "error_rate_body", "dice_near", "dice_body", "boundary_f1")


@dataclass(frozen=True)
class CaseRow:
    """One class of one image.

    Attributes:
        net: that answered.
        stem: of the image.
        class_name: of the class.
        dice: of the whole image.
        error_rate_near: share of the pixels within two of the boundary that are wrong; NaN where
            the truth has no boundary.
        error_rate_body: of all others.
        dice_near: within two pixels of the boundary.
        dice_body: everywhere else.
        near_share_of_errors: how much of all errors lies within two pixels of the boundary; NaN
            where nothing is wrong.
        boundary_f1: NaN where the class is in neither, 0 where it is in one of the two.
    """

    net: str
    stem: str
    class_name: str
    dice: float
    error_rate_near: float
    error_rate_body: float
    dice_near: float
    dice_body: float
    near_share_of_errors: float
    boundary_f1: float


@dataclass(frozen=True)
class Seen:
    """One class of one image, with its bands."""

    row: CaseRow
    bands: list[Band]


def probe_boundary(probed: Probed, folder: Path) -> dict[str, float]:
    """Look at one net; see ``compare_boundary``. The figures have no name before them."""
    found = compare_boundary([probed], folder)
    return {key.removeprefix(f"{probed.name}."): value for key, value in found.items()}


def compare_boundary(nets: Sequence[Probed], folder: Path) -> dict[str, float]:
    """Count errors by distance, and draw them.

    Writes ``bands.csv``, ``cases.csv``, the figures ``boundary`` and ``error-maps``, and of several
    nets ``differences.csv``: the first minus each of the others.

    Returns:
        Means over images, by ``<net>.<class>.<measure>``, and of several nets
        ``<first>-<net>.<class>.<measure>``.
    """
    refused = unlike(nets)
    if refused is not None:
        raise RequestInvalid(refused)
    rulers = rulers_for(nets[0].dataset, nets[0].stems)
    seen = {net.name: look(net, rulers) for net in nets}
    unit = rulers.common.unit
    bands = [row for found in seen.values() for row in _band_rows(found, unit)]
    write_rows(folder / "bands.csv", bands)
    write_rows(folder / "cases.csv", [one.row for s in seen.values() for one in s])
    differences = [
        row for net in nets[1:] for row in _differences(seen[nets[0].name], seen[net.name], net)
    ]
    if differences:
        write_rows(folder / "differences.csv", differences)
    draw_boundary(bands, folder)
    draw_error_maps(nets, _telling(seen, nets), folder)
    figures = {}
    for net in nets:
        for name in _names(net):
            rows = [one.row for one in seen[net.name] if one.row.class_name == name]
            for measure in (*MEASURES, "near_share_of_errors"):
                mean = summarise(getattr(row, measure) for row in rows).mean
                if mean is not None:
                    figures[f"{net.name}.{name}.{measure}"] = mean
    for row in differences:
        if row.mean_difference is not None:
            figures[f"{row.ours}-{row.other}.{row.class_name}.{row.measure}"] = row.mean_difference
    return figures


def look(net: Probed, rulers: Rulers) -> list[Seen]:
    """Return what a net answers on each image, class by class."""
    found = []
    for image in net.images("looking at the boundaries of"):
        labels = net.answer(image.image_chw)
        found += [
            _look_at(net, image, labels, index, rulers.of(image.case.stem), rulers.common)
            for index in net.foreground
        ]
    return found


def _look_at(
    net: Probed,
    image: ProbedImage,
    labels: NDArray[np.uint8],
    index: int,
    ruler: Ruler,
    common: Ruler,
) -> Seen:
    truth, answer = plane_of(image.truth, index), plane_of(labels, index)
    counted: Mask = (image.truth[index] if image.truth.ndim == 3 else image.truth) != IGNORE
    spacing = ruler.spacing(truth.shape)
    step = _step(common)
    edges = tuple(edge * step for edge in BIN_EDGES_PX)
    bands = bands_of(signed_distance(truth, counted, spacing), answer, edges)
    near = [band for band in bands if band.up_to <= NEAR_PX * step]
    body = [band for band in bands if band.up_to > NEAR_PX * step]
    errors = sum(band.errors for band in bands)
    row = CaseRow(
        net=net.name,
        stem=image.case.stem,
        class_name=net.class_names[index],
        dice=dice_of(bands),
        error_rate_near=error_rate(near),
        error_rate_body=error_rate(body),
        dice_near=dice_of(near),
        dice_body=dice_of(body),
        near_share_of_errors=sum(band.errors for band in near) / errors if errors else np.nan,
        boundary_f1=boundary_f1(answer & counted, truth & counted, spacing, NEAR_PX * step),
    )
    return Seen(row, bands)


def boundary_f1(answer: Mask, truth: Mask, spacing: Spacing, tolerance: float) -> float:
    """Return 2 P R / (P + R) of outline pixels within ``tolerance`` of the other outline.

    NaN where both masks are empty, 0 where one is.
    """
    if not (answer.any() and truth.any()):
        return 0.0 if answer.any() or truth.any() else np.nan
    apart = outline_distances(answer, truth, spacing)
    within = tolerance * (1 + ROUNDING)
    precision, recall = (
        float(np.mean(distances <= within)) for distances in (apart.to_truth, apart.to_prediction)
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _step(ruler: Ruler) -> float:
    """Return the longer side of a pixel, in the unit of lengths."""
    return max(ruler.spacing_mm or (1.0,))


def _names(net: Probed) -> list[str]:
    return [net.class_names[index] for index in net.foreground]


def _band_rows(seen: Sequence[Seen], unit: str) -> list[BandRow]:
    return [
        BandRow(
            net=one.row.net,
            stem=one.row.stem,
            class_name=one.row.class_name,
            side=band.side,
            distance_above=band.above,
            distance_up_to=band.up_to,
            unit=unit,
            pixels=band.pixels,
            errors=band.errors,
            error_rate=error_rate([band]),
        )
        for one in seen
        for band in one.bands
    ]


def _differences(ours: Sequence[Seen], others: Sequence[Seen], net: Probed) -> list[PairedRow]:
    def values(seen: Sequence[Seen], name: str, measure: str) -> tuple[str, list[float]]:
        rows = [one.row for one in seen if one.row.class_name == name]
        return seen[0].row.net, [getattr(row, measure) for row in rows]

    return [
        paired_row(
            values(ours, name, measure),
            values(others, name, measure),
            class_name=name,
            measure=measure,
            groups=net.groups,
            seed=net.seed,
        )
        for name in _names(net)
        for measure in ("dice", *MEASURES)
    ]


def _telling(seen: dict[str, list[Seen]], nets: Sequence[Probed]) -> dict[str, str]:
    """Return why an image is shown, and its stem; by Dice, the mean over its classes.

    Of one net the worst, the median and the best image; of several those where the first is
    furthest ahead of the last, nearest to it, and furthest behind.
    """
    stems = nets[0].stems
    if len(nets) == 1:
        telling, reasons = _dice_by_image(seen[nets[0].name], stems), ("worst", "median", "best")
    else:
        ours, last = (_dice_by_image(seen[net.name], stems) for net in (nets[0], nets[-1]))
        telling, reasons = last - ours, (f"best for {nets[0].name}", "alike", "best for the other")
    ranked = [int(place) for place in np.argsort(telling, kind="stable")]
    ranked = [place for place in ranked if not np.isnan(telling[place])]
    if not ranked:  # no class in any truth or answer
        return {"an image": stems[0]}
    middle = ranked[len(ranked) // 2]
    if len(nets) > 1:
        middle = min(ranked, key=lambda place: abs(telling[place]))
    by_stem: dict[str, str] = {}
    for reason, place in zip(reasons, (ranked[0], middle, ranked[-1]), strict=True):
        by_stem.setdefault(stems[place], reason)
    return {reason: stem for stem, reason in by_stem.items()}


def _dice_by_image(seen: Sequence[Seen], stems: Sequence[str]) -> NDArray[np.float64]:
    dice = np.array([one.row.dice for one in seen]).reshape(len(stems), -1)
    scored = ~np.isnan(dice)
    total = np.where(scored, dice, 0).sum(axis=1)
    return np.where(scored.any(axis=1), total / np.maximum(scored.sum(axis=1), 1), np.nan)
