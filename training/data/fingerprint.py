"""What a training set is like, without saying whose it is: sizes, intensities, counts, hashes."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from contract.spec import TrainingData
from training.data.case import Case
from training.data.folder import FolderDataset, load_image

HASH_DIGITS = 16
# Values that the percentiles are told from, of all images together and per channel: 4 MB each.
SAMPLED_PIXELS = 1_000_000
LEAST_PER_IMAGE = 64


@dataclass(frozen=True)
class _Glance:
    sampled_nc: NDArray[np.float32]  # [n, C] raw intensities
    hashed: str


def fingerprint(dataset: FolderDataset, stems: Sequence[str]) -> TrainingData:
    """Describe the images of ``stems`` for the model's spec.

    Percentiles come from a fixed random sample of pixels, the same number from each image, so
    that a few large images do not speak for all. Fractions of classes are of the pixels that are
    not ignored. Hashes are those of the images as the net gets them (``load_image``).

    Raises:
        DataError: a stem that the data set does not have.
        ValueError: no stems.
    """
    cases = dataset.select(stems)
    if not cases:
        raise ValueError("a fingerprint needs at least one image, got no stems")
    facts = [dataset.facts[case.stem] for case in cases]
    share = max(LEAST_PER_IMAGE, SAMPLED_PIXELS // len(cases))
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        glances = list(pool.map(lambda case: _glance(case, dataset.channels, share), cases))
    sampled = np.concatenate([glance.sampled_nc for glance in glances])
    percentiles = np.percentile(sampled, (1, 50, 99), axis=0).T  # [C, 3]
    counts = np.array([fact.class_pixels for fact in facts], dtype=np.float64).sum(axis=0)
    # Classes of a multilabel mask overlap: each is a fraction of all pixels that count.
    labelled = sum(fact.height_px * fact.width_px for fact in facts)
    planes = len(dataset.classes) if dataset.spec.task == "multilabel" else 1
    labelled -= sum(fact.ignored_pixels for fact in facts) // planes
    fractions = counts / labelled if labelled else np.zeros_like(counts)
    return TrainingData(
        images=len(cases),
        height_min_median_max=_min_median_max([fact.height_px for fact in facts]),
        width_min_median_max=_min_median_max([fact.width_px for fact in facts]),
        intensity_p01_p50_p99=tuple((float(a), float(b), float(c)) for a, b, c in percentiles),
        class_pixel_fraction=tuple(float(fraction) for fraction in fractions),
        image_hashes=tuple(sorted({glance.hashed for glance in glances})),
    )


def image_hash(pixels_hwc: NDArray[np.generic]) -> str:
    """Return the first 16 hex digits of sha256 over dtype, shape and decoded bytes.

    It depends on the pixels alone: the same picture as PNG and as TIFF has one hash.
    """
    little = np.ascontiguousarray(pixels_hwc, dtype=pixels_hwc.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{pixels_hwc.dtype.name} {pixels_hwc.shape} ".encode())
    digest.update(little.data)
    return digest.hexdigest()[:HASH_DIGITS]


def _glance(case: Case, channels: int, share: int) -> _Glance:
    pixels = load_image(case, channels)
    flat = pixels.reshape(-1, channels)
    if len(flat) > share:
        flat = flat[np.random.default_rng(0).integers(len(flat), size=share)]
    return _Glance(flat.astype(np.float32), image_hash(pixels))


def _min_median_max(sides: Sequence[int]) -> tuple[float, float, float]:
    return float(min(sides)), float(median(sides)), float(max(sides))
