"""Decoded images and masks, kept in memory up to a bound."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from contract.statistics import image_statistics
from training.data.augment import Overview, overview_of
from training.data.case import Case
from training.data.folder import load_image, load_mask
from training.data.masks import IGNORE
from training.data.spec import DatasetSpec

# Enough places per class to centre crops on; all pixels of a class would outweigh the image.
FOREGROUND_PLACES = 512


@dataclass(frozen=True)
class LoadedCase:
    """A decoded case with what sampling needs to know of it.

    Attributes:
        image_hwc: raw, at the image's own bit depth (float32 where it was resized).
        mask: uint8 ``[H, W]`` class indices, multilabel ``[H, W, K]`` of 0/1; 255 is ignored.
        overview: sample of the pixels and the whole image's statistics.
        places_yx: for each foreground class present, up to 512 of its pixels, int32 ``[n, 2]``.
    """

    image_hwc: NDArray[np.generic]
    mask: NDArray[np.uint8]
    overview: Overview
    places_yx: tuple[NDArray[np.int32], ...]

    @property
    def size_bytes(self) -> int:
        """Memory that it holds."""
        arrays = [self.image_hwc, self.mask, self.overview.pixels_hwc, *self.places_yx]
        return sum(array.nbytes for array in arrays)


def load_case(
    case: Case, spec: DatasetSpec, channels: int, working_size: tuple[int, int] | None = None
) -> LoadedCase:
    """Decode a case; with ``working_size`` resize it as the exported graph will.

    The statistics are those of the image at its own size: the graph normalises, then resamples.
    """
    image = load_image(case, channels)
    mask = load_mask(case, spec)
    if mask.ndim == 3:
        mask = np.ascontiguousarray(mask.transpose(1, 2, 0))
    statistics = image_statistics(image.transpose(2, 0, 1).astype(np.float32))
    if working_size is not None:
        image, mask = _resized(image, working_size), _resized_mask(mask, working_size)
    return LoadedCase(image, mask, overview_of(image, statistics), _places(mask))


def _resized(image_hwc: NDArray[np.generic], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    # The same function as in training/graph/resample.py: bilinear, antialiased on the way down.
    batch = torch.from_numpy(image_hwc.astype(np.float32)).permute(2, 0, 1)[None]
    resized = F.interpolate(
        batch, size=size_hw, mode="bilinear", align_corners=False, antialias=True
    )
    array: NDArray[np.float32] = resized[0].permute(1, 2, 0).contiguous().numpy()
    return array


def _resized_mask(mask: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    planes = mask[..., None] if mask.ndim == 2 else mask
    size = (size_hw[1], size_hw[0])
    resized = [
        cv2.resize(
            np.ascontiguousarray(planes[..., k]), size, interpolation=cv2.INTER_NEAREST_EXACT
        )
        for k in range(planes.shape[2])
    ]
    return np.stack(resized, axis=2) if mask.ndim == 3 else resized[0]


def _places(mask: NDArray[np.uint8]) -> tuple[NDArray[np.int32], ...]:
    if mask.ndim == 3:
        planes = [mask[..., k] == 1 for k in range(mask.shape[2])]
    else:
        present = np.flatnonzero(np.bincount(mask.reshape(-1)))
        planes = [mask == index for index in present if index not in (0, IGNORE)]
    width = mask.shape[1]
    places = []
    for plane in planes:
        flat = np.flatnonzero(plane)
        if len(flat) > FOREGROUND_PLACES:
            flat = np.random.default_rng(0).choice(flat, FOREGROUND_PLACES, replace=False)
        if len(flat):
            places.append(np.stack([flat // width, flat % width], axis=1).astype(np.int32))
    return tuple(places)


class CaseCache:
    """Loads cases and keeps them while they fit.

    What is in stays in: every epoch asks for every image, in another order, and the least
    recently used one would then always be the next to be needed.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        spec: DatasetSpec,
        channels: int,
        *,
        max_bytes: int,
        working_size: tuple[int, int] | None = None,
    ) -> None:
        self.cases = tuple(cases)
        self.spec = spec
        self.channels = channels
        self.max_bytes = max_bytes
        self.working_size = working_size
        self.held_bytes = 0
        self._held: dict[int, LoadedCase] = {}

    def __getitem__(self, index: int) -> LoadedCase:
        """Return the case at ``index``, from memory where it is held."""
        held = self._held.get(index)
        if held is not None:
            return held
        loaded = load_case(self.cases[index], self.spec, self.channels, self.working_size)
        if self.held_bytes + loaded.size_bytes <= self.max_bytes:
            self._held[index] = loaded
            self.held_bytes += loaded.size_bytes
        return loaded

    def __getstate__(self) -> dict[str, object]:
        """Leave the images out when sent to a worker; it fills its own share."""
        return {**self.__dict__, "_held": {}, "held_bytes": 0}
