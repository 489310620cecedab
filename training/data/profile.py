"""What a data set is like, as far as training depends on it: sizes, intensities, objects, places.

``fingerprint`` says for a model's card what it was trained on; this is what ``plan`` chooses by
and what ``doctor`` prints.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.case import Case
from training.data.folder import IGNORE, FolderDataset, load_image, load_mask
from training.data.look import alike_shares

# Beyond this many images, an evenly spread choice of them is looked at pixel by pixel.
MOST_PROFILED = 100
# Places are compared on masks that are brought to this size, whatever their own.
ATLAS_SIDE = 32
# Values per image and channel that percentiles are told from.
SAMPLED_PIXELS = 10_000
# Objects of fewer pixels are taken for labelling noise where larger ones are there.
LEAST_OBJECT_PX = 4
# An image is odd where less than this share of the images is of its kind.
ODD = 0.1

Range = tuple[float, float, float]


@dataclass(frozen=True)
class ClassProfile:
    """One class that is not background. None: no mask that was looked at holds it.

    Attributes:
        name: as in the data set.
        pixel_fraction: share of the pixels that count, over all images.
        images: how many masks hold it.
        objects_per_image: connected objects in the masks that hold it, median.
        object_area_px: 5th, 50th and 95th percentile of their areas.
        extent: longer side of an object's box as a share of the image's longer side, median over
            images of the largest object's.
        width_px: how thick it is: median over images of ``4 * mean distance to its edge - 2``,
            which is a band's width (to 1 / width where that is odd) and two thirds of a disc's
            diameter.
    """

    name: str
    pixel_fraction: float
    images: int
    objects_per_image: float | None
    object_area_px: Range | None
    extent: float | None
    width_px: float | None


@dataclass(frozen=True)
class DataProfile:
    """What the rules of ``plan`` look at.

    Attributes:
        images: how many there are.
        profiled: how many were looked at pixel by pixel.
        channels: of every image as the net gets it.
        bits: 8, 16 or 32 (floating point), the largest among the images.
        multilabel: classes may overlap, and there is no background class.
        height_px: least, median, greatest.
        width_px: least, median, greatest.
        pixels: of all images together.
        area_px: of an image; least, median, greatest.
        odd_fraction: share of the images that look unlike most: less than a tenth of all images
            is of their kind.
        oddest_share: share of the images that is of the rarest kind.
        decoded_bytes: memory of all images and masks, decoded.
        intensity_p01_p50_p99: raw percentiles per channel, each image with the same weight.
        lowest: least raw intensity.
        classes: all but the background.
        background_fraction: share of the pixels that count (multilabel: of no class at all is not
            known, so 0).
        ignored_fraction: share of pixels that count in nothing.
        size_spread: how far magnification differs: 90th over 10th percentile of the thickness of
            a class in each image, median over classes; 1 where there are fewer than two images.
        brighter_fraction: share of the images whose foreground is brighter than the rest.
        atlas_dice: mean Dice over classes of the best fixed mask, the same for every image: how
            far place alone tells the class.
        atlas_dice_mirrored: the same after the masks were mirrored left to right.
        atlas_dice_upended: the same after the masks were turned top to bottom.
        neighbour_dice: mean Dice of coarse masks of images that follow each other by name.
        stranger_dice: of images half the set apart; far lower than that of neighbours where the
            images are slices of one stack or frames of one film.
        groups: how many; None where none are known.
    """

    images: int
    profiled: int
    channels: int
    bits: int
    multilabel: bool
    height_px: Range
    width_px: Range
    pixels: int
    area_px: Range
    odd_fraction: float
    oddest_share: float
    decoded_bytes: int
    intensity_p01_p50_p99: tuple[Range, ...]
    lowest: float
    classes: tuple[ClassProfile, ...]
    background_fraction: float
    ignored_fraction: float
    size_spread: float
    brighter_fraction: float
    atlas_dice: float
    atlas_dice_mirrored: float
    atlas_dice_upended: float
    neighbour_dice: float
    stranger_dice: float
    groups: int | None


@dataclass(frozen=True)
class _ClassGlance:
    areas_px: NDArray[np.float64]
    extent: float
    width_px: float


@dataclass(frozen=True)
class _Glance:
    bits: int
    nbytes_per_pixel: int
    sampled_nc: NDArray[np.float32]
    lowest: float
    brighter: bool | None
    classes: tuple[_ClassGlance | None, ...]
    atlas_khw: NDArray[np.float32]  # share of each cell that is the class


def profile(dataset: FolderDataset, stems: Sequence[str]) -> DataProfile:
    """Look at the images of ``stems``; the same stems always give the same profile.

    Raises:
        DataError: a stem that the data set does not have, or a file that changed since the check.
        ValueError: no stems.
    """
    cases = dataset.select(stems)
    if not cases:
        raise ValueError("a profile needs at least one image, got no stems")
    places = _looked_at(len(cases))
    chosen = [cases[place] for place in places]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        glances = list(pool.map(lambda case: _glance(dataset, case), chosen))
    facts = [dataset.facts[case.stem] for case in cases]
    pixels = sum(fact.height_px * fact.width_px for fact in facts)
    alike = alike_shares([fact.look for fact in facts])
    multilabel = dataset.spec.task == "multilabel"
    planes = len(dataset.classes) if multilabel else 1
    ignored = sum(fact.ignored_pixels for fact in facts) // planes
    counts = np.array([fact.class_pixels for fact in facts], dtype=np.float64)  # [n, K]
    fractions = counts.sum(axis=0) / max(pixels - ignored, 1)
    first = 0 if multilabel else 1
    classes = tuple(
        _class_profile(
            dataset.classes[index].name,
            float(fractions[index]),
            int((counts[:, index] > 0).sum()),
            [g for glance in glances if (g := glance.classes[index - first]) is not None],
        )
        for index in range(first, len(dataset.classes))
    )
    percentiles = np.percentile(
        np.concatenate([g.sampled_nc for g in glances]), (1, 50, 99), axis=0
    )
    atlas = np.stack([glance.atlas_khw for glance in glances])  # [n, K, side, side]
    brighter = [glance.brighter for glance in glances if glance.brighter is not None]
    groups = {case.group for case in cases if case.group is not None}
    bytes_per_pixel = float(np.mean([glance.nbytes_per_pixel for glance in glances]))
    return DataProfile(
        images=len(cases),
        profiled=len(chosen),
        channels=dataset.channels,
        bits=max(glance.bits for glance in glances),
        multilabel=multilabel,
        height_px=_range([fact.height_px for fact in facts]),
        width_px=_range([fact.width_px for fact in facts]),
        pixels=pixels,
        area_px=_range([fact.height_px * fact.width_px for fact in facts]),
        odd_fraction=float((alike < ODD).mean()),
        oddest_share=float(alike.min()),
        decoded_bytes=int(pixels * bytes_per_pixel),
        intensity_p01_p50_p99=tuple((float(a), float(b), float(c)) for a, b, c in percentiles.T),
        lowest=min(glance.lowest for glance in glances),
        classes=classes,
        background_fraction=0.0 if multilabel else float(fractions[0]),
        ignored_fraction=ignored / pixels,
        size_spread=_size_spread(glances),
        brighter_fraction=float(np.mean(brighter)) if brighter else 0.5,
        atlas_dice=atlas_dice(atlas, atlas),
        atlas_dice_mirrored=atlas_dice(atlas, atlas[..., ::-1]),
        atlas_dice_upended=atlas_dice(atlas, atlas[..., ::-1, :]),
        neighbour_dice=coarse_dice(
            atlas[:-1][np.diff(places) == 1], atlas[1:][np.diff(places) == 1]
        ),
        stranger_dice=coarse_dice(atlas[: -(len(atlas) // 2) or None], atlas[len(atlas) // 2 :]),
        groups=len(groups) or None,
    )


def atlas_dice(from_nkhw: NDArray[np.float32], against_nkhw: NDArray[np.float32]) -> float:
    """Return the mean Dice of fixed masks, made from some masks, against others at the same place.

    The fixed mask of a class is the mean of all other images' masks, cut at the share that gives
    the best Dice against ``from_nkhw``; so with few images it does not score against itself.
    Masks hold shares 0..1 of each cell. A class that fewer than two hold is left out.
    """
    scores = []
    for index in range(from_nkhw.shape[1]):
        held = from_nkhw[:, index].sum(axis=(1, 2)) > 0
        own, against = from_nkhw[held, index], against_nkhw[held, index]
        if len(own) < 2:
            continue
        others = (own.sum(axis=0) - own) / (len(own) - 1)
        shares = np.linspace(0.05, 0.95, 19)
        best = max(shares, key=lambda share: _mean_dice(own, others >= share))
        scores.append(_mean_dice(against, others >= best))
    return float(np.mean(scores)) if scores else 0.0


def _mean_dice(shares_nhw: NDArray[np.float32], cuts_nhw: NDArray[np.bool_]) -> float:
    both = (shares_nhw * cuts_nhw).sum(axis=(1, 2))
    return float((2 * both / (shares_nhw.sum(axis=(1, 2)) + cuts_nhw.sum(axis=(1, 2)))).mean())


def coarse_dice(first_nkhw: NDArray[np.float32], second_nkhw: NDArray[np.float32]) -> float:
    """Return the mean soft Dice of masks in pairs, over pairs and classes that either holds."""
    both = 2 * np.minimum(first_nkhw, second_nkhw).sum(axis=(2, 3))
    total = (first_nkhw + second_nkhw).sum(axis=(2, 3))
    held = total > 0
    return float((both[held] / total[held]).mean()) if held.any() else 0.0


def _looked_at(images: int) -> NDArray[np.intp]:
    """Return which images are looked at: all, or pairs of neighbours from all over the set."""
    if images <= MOST_PROFILED:
        return np.arange(images)
    firsts = np.linspace(0, images - 2, MOST_PROFILED // 2).round().astype(int)
    return np.unique(np.concatenate([firsts, firsts + 1]))


def thickness_px(plane: NDArray[np.bool_]) -> float:
    """Return how thick the structures of a mask ``[H, W]`` are, in pixels; see ``ClassProfile``."""
    if plane.all():  # no edge to measure to
        return float(min(plane.shape))
    distance = cv2.distanceTransform(plane.astype(np.uint8), cv2.DIST_L2, 5)
    return max(1.0, 4.0 * float(distance[plane].mean()) - 2.0)


def _glance(dataset: FolderDataset, case: Case) -> _Glance:
    image = load_image(case, dataset.channels)
    mask = load_mask(case, dataset.spec)
    planes = list(_planes(mask, len(dataset.classes)))
    flat = image.reshape(-1, image.shape[2])
    chosen = np.random.default_rng(0).integers(len(flat), size=min(SAMPLED_PIXELS, len(flat)))
    bits = 32 if image.dtype.kind == "f" else 8 * image.dtype.itemsize
    return _Glance(
        bits=bits,
        nbytes_per_pixel=image.dtype.itemsize * image.shape[2] + (mask.nbytes // len(flat)),
        sampled_nc=flat[chosen].astype(np.float32),
        lowest=float(image.min()),
        brighter=_brighter(flat, mask, planes),
        classes=tuple(_class_glance(plane) for plane in planes),
        atlas_khw=np.stack(
            [
                cv2.resize(
                    plane.astype(np.float32), (ATLAS_SIDE, ATLAS_SIDE), interpolation=cv2.INTER_AREA
                )
                for plane in planes
            ]
        ),
    )


def _planes(mask: NDArray[np.uint8], classes: int) -> Iterator[NDArray[np.bool_]]:
    if mask.ndim == 3:
        yield from (plane == 1 for plane in mask)
    else:
        yield from (mask == index for index in range(1, classes))


def _brighter(
    flat_nc: NDArray[np.generic], mask: NDArray[np.uint8], planes: Sequence[NDArray[np.bool_]]
) -> bool | None:
    inside = np.logical_or.reduce(planes).reshape(-1)
    ignored = (mask == IGNORE).any(axis=0) if mask.ndim == 3 else mask == IGNORE
    outside = ~inside & ~ignored.reshape(-1)
    if not inside.any() or not outside.any():
        return None
    return bool(flat_nc[inside].mean(dtype=np.float64) > flat_nc[outside].mean(dtype=np.float64))


def _class_glance(plane: NDArray[np.bool_]) -> _ClassGlance | None:
    if not plane.any():
        return None
    _, _, stats, _ = cv2.connectedComponentsWithStats(plane.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    sides = np.maximum(stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT])
    kept = areas >= LEAST_OBJECT_PX
    if not kept.any():
        kept = np.ones_like(kept)
    return _ClassGlance(
        areas_px=areas[kept],
        extent=float(sides[kept].max() / max(plane.shape)),
        width_px=thickness_px(plane),
    )


def _class_profile(
    name: str, pixel_fraction: float, images: int, glances: Sequence[_ClassGlance]
) -> ClassProfile:
    if not glances:
        return ClassProfile(name, pixel_fraction, images, None, None, None, None)
    p05, p50, p95 = np.percentile(np.concatenate([g.areas_px for g in glances]), (5, 50, 95))
    return ClassProfile(
        name=name,
        pixel_fraction=pixel_fraction,
        images=images,
        objects_per_image=float(np.median([len(g.areas_px) for g in glances])),
        object_area_px=(float(p05), float(p50), float(p95)),
        extent=float(np.median([g.extent for g in glances])),
        width_px=float(np.median([g.width_px for g in glances])),
    )


def _size_spread(glances: Sequence[_Glance]) -> float:
    """Return the median over classes of the spread between images."""
    spreads = []
    for index in range(len(glances[0].classes)):
        held = [g.classes[index] for g in glances]
        widths = [g.width_px for g in held if g is not None]
        if len(widths) > 1:
            low, high = np.percentile(widths, (10, 90))
            spreads.append(float(high / low))
    return float(np.median(spreads)) if spreads else 1.0


def _range(sides: Sequence[int]) -> Range:
    return float(min(sides)), float(np.median(sides)), float(max(sides))
