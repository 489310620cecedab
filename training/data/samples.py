"""Cases -> tensors: altered patches to train on, whole images to validate on.

Images leave here as raw intensities with the whole image's mean and std beside them; the net's
own first stage normalises (``training/graph/normalise.py``), so training and the exported file
cannot differ in it.
"""

from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from imaging.channels import to_chw_float32
from training.data.augment import Augment
from training.data.cache import CaseCache, LoadedCase
from training.data.draws import Draws


class SampleKey(NamedTuple):
    """Names a sample for good. The epoch travels with the index, because a worker that lives for
    the whole training never hears of ``set_epoch`` in the main process.
    """  # noqa: D205

    epoch: int
    sample: int


class Sample(TypedDict):
    """One sample; a batch has the same keys, stacked.

    ``image`` float32 ``[C, h, w]`` raw intensities; ``statistics`` float32 ``[C, 2]`` mean and
    population std of the whole image; ``mask`` uint8 ``[h, w]`` (multilabel ``[K, h, w]``), 255
    is ignored; ``stem`` only where whole images come out.
    """

    image: Tensor
    statistics: Tensor
    mask: Tensor
    stem: NotRequired[str]


class PatchSamples(Dataset[Sample]):
    """Altered patches; (seed, epoch, index) decides each, bit for bit.

    Neither the number of workers nor a resumed training changes what a key gives.
    """

    def __init__(
        self,
        cache: CaseCache,
        augment: Augment,
        *,
        seed: int,
        patches_per_image: int = 1,
        foreground_fraction: float = 0.0,
        draws: Draws | None = None,
    ) -> None:
        self.cache = cache
        self.augment = augment
        self.seed = seed
        self.patches_per_image = patches_per_image
        self.foreground_fraction = foreground_fraction
        self.draws = draws
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of samples in one epoch."""
        return len(self.cache.cases) * self.patches_per_image

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that plain integer indices mean; keys carry their own."""
        self.epoch = epoch

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Return the sample of a plain index in this epoch, or of a ``SampleKey``."""
        epoch, index = (self.epoch, key) if isinstance(key, int) else key
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        rng = np.random.default_rng((self.seed, epoch, index))
        if self.draws is None:
            case = self.cache[index // self.patches_per_image]
        else:
            case = self.cache[self.draws.image_of(epoch, index)]
        wants_foreground = rng.random() < self.foreground_fraction
        around_yx = _foreground_pixel(case, rng) if wants_foreground else None
        patch = self.augment(case.image_hwc, case.mask, case.overview, rng, around_yx=around_yx)
        return _sample(patch.image_chw, patch.statistics, patch.mask)


class WholeImages(Dataset[Sample]):
    """Images and masks as they are, at their own size; for validation, one at a time."""

    def __init__(self, cache: CaseCache) -> None:
        self.cache = cache

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.cache.cases)

    def __getitem__(self, index: int) -> Sample:
        """Return the whole image at ``index`` with its stem."""
        case = self.cache[index]
        image = to_chw_float32(case.image_hwc)
        sample = _sample(image, case.overview.statistics, case.mask)
        sample["stem"] = self.cache.cases[index].stem
        return sample


def _foreground_pixel(case: LoadedCase, rng: np.random.Generator) -> tuple[int, int] | None:
    if not case.places_yx:
        return None
    places = case.places_yx[int(rng.integers(len(case.places_yx)))]
    y, x = places[int(rng.integers(len(places)))]
    return int(y), int(x)


def _sample(
    image_chw: NDArray[np.float32], statistics: NDArray[np.float32], mask: NDArray[np.uint8]
) -> Sample:
    mask_khw = mask if mask.ndim == 2 else mask.transpose(2, 0, 1)
    return Sample(
        image=torch.from_numpy(image_chw),
        statistics=torch.from_numpy(statistics.astype(np.float32)),
        # A copy: torch must not share memory with the cache.
        mask=torch.from_numpy(np.array(mask_khw, order="C")),
    )
