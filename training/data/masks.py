"""Stored mask values -> class indices."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.errors import DataError
from imaging.label_png import read_mask
from training.data.case import Case
from training.data.spec import DatasetSpec

# uint8 that no class index reaches (a spec has at most 255 classes): left out of loss and metrics.
IGNORE = 255
UNMAPPED = -1


class ColourMask(DataError):
    """A mask of several channels, whose colours mean what no index says."""


def load_mask(case: Case, spec: DatasetSpec) -> NDArray[np.uint8]:
    """Read a mask as class indices.

    Returns:
        uint8 ``[H, W]`` of class indices with ``IGNORE`` (255) where the spec says so; for
        multilabel ``[K, H, W]`` of 0/1 (and 255), classes in the spec's order.

    Raises:
        DataError: a value that neither ``mask_map`` nor the classes know, or a colour mask.
        ImageError: a file that does not decode.
    """
    if isinstance(case.mask, Path):
        return to_class_indices(read_stored_mask(case, None), spec, str(case.mask))
    planes = [
        to_class_indices(read_stored_mask(case, entry.name), spec, str(case.mask[entry.name]))
        for entry in spec.classes
    ]
    return np.stack(planes)


def read_stored_mask(case: Case, class_name: str | None) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the stored values ``[H, W]`` of a mask (of one class, for multilabel).

    Raises:
        ColourMask: the mask has several channels.
        DataError: the mask has fractions or negative values.
        ImageError: the file does not decode.
    """
    path = case.mask if isinstance(case.mask, Path) else case.mask[class_name or ""]
    stored = read_mask(path)
    if stored.ndim == 3 and stored.shape[2] == 1:
        stored = stored[..., 0]
    if stored.ndim != 2:
        raise ColourMask(_colour_mask(stored))
    if stored.dtype == np.bool_:
        return stored.astype(np.uint8)
    if not np.issubdtype(stored.dtype, np.integer):
        raise DataError(f"a mask of {stored.dtype}; class indices are whole numbers")
    if stored.size and (int(stored.min()) < 0 or int(stored.max()) > 65535):
        raise DataError(f"values {int(stored.min())}..{int(stored.max())}; expected 0..65535")
    if stored.dtype == np.uint8:
        return stored.astype(np.uint8, copy=False)
    return stored.astype(np.uint16, copy=False)


def _colour_mask(stored: NDArray[np.generic]) -> str:
    if stored.ndim != 3:
        return f"a mask of shape {stored.shape}; expected one value per pixel"
    colours = np.unique(stored.reshape(-1, stored.shape[2])[:1_000_000], axis=0)
    grey = bool((colours[:, :1] == colours[:, 1:3]).all())
    kind = "grey values stored as colour" if grey else f"{len(colours)} colours"
    return f"a mask of {stored.shape[2]} channels ({kind}); expected one class index per pixel"


def value_counts(stored: NDArray[np.uint8] | NDArray[np.uint16]) -> dict[int, int]:
    """Return how many pixels hold each value that occurs."""
    counts = np.bincount(stored.reshape(-1), minlength=1)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def class_of(value: int, spec: DatasetSpec) -> int:
    """Return the class index of a stored value, ``IGNORE``, or ``UNMAPPED``."""
    if value == spec.ignore:
        return IGNORE
    if value in spec.mask_map:
        return spec.mask_map[value]
    known = 2 if spec.task == "multilabel" else len(spec.classes)
    return value if value < known else UNMAPPED


def unmapped_values(values: Iterable[int], spec: DatasetSpec) -> list[int]:
    """Return the values, sorted, that mean nothing under ``spec``."""
    return sorted(value for value in values if class_of(value, spec) == UNMAPPED)


def to_class_indices(
    stored: NDArray[np.uint8] | NDArray[np.uint16], spec: DatasetSpec, source: str
) -> NDArray[np.uint8]:
    """Map stored values ``[H, W]`` to class indices.

    Raises:
        DataError: a value that neither ``mask_map`` nor the classes know.
    """
    present = value_counts(stored)
    unmapped = unmapped_values(present, spec)
    if unmapped:
        raise DataError(f"{source}: values {unmapped[:20]} mean no class; {remedy(unmapped, spec)}")
    table = np.zeros(max(present, default=0) + 1, dtype=np.uint8)
    for value in present:
        table[value] = class_of(value, spec)
    indices: NDArray[np.uint8] = table[stored]
    return indices


def remedy(unmapped: list[int], spec: DatasetSpec) -> str:
    """Say which lines of dataset.yaml would give unmapped values a meaning."""
    if unmapped == [255]:
        return (
            "add mask_map: {255: 1} to dataset.yaml if 255 marks the structure, "
            "or ignore: 255 if it marks pixels to leave out"
        )
    known = 2 if spec.task == "multilabel" else len(spec.classes)
    indices = f" (class indices here are 0..{known - 1})" if known > 1 else ""
    if len(unmapped) > 20:
        return (
            f"{len(unmapped)} values look like grey levels or instance numbers: store class "
            f"indices{indices} in a lossless format, without smoothing"
        )
    example = ", ".join(f"{value}: {min(i + 1, 254)}" for i, value in enumerate(unmapped[:4]))
    return (
        f"say in dataset.yaml what each value means, such as mask_map: {{{example}}}{indices}, "
        "and name as many classes"
    )
