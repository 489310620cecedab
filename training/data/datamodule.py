"""A data set as Lightning wants it: checked, split, and loaded in a fixed order."""

import signal
from pathlib import Path
from statistics import median

import cv2
import lightning
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader

from contract.errors import DataError
from contract.spec import SegmentClass
from contract.statistics import image_statistics
from imaging.channels import to_chw_float32
from training.data.augment import AugmentConfig, build_augment
from training.data.cache import CaseCache
from training.data.config import DataConfig
from training.data.draws import Draws, repeat_factors
from training.data.folder import FolderDataset, load_image, open_folder
from training.data.loader import TimedLoader
from training.data.order import EpochOrder
from training.data.samples import PatchSamples, Sample, WholeImages
from training.data.split import Split, find_split, write_split

__all__ = ["DataConfig", "SegmentationData", "choose_patch"]

PATCH_STEP_PX = 32  # divides by the divisor of nets up to five levels deep
PATCH_MAX_PX = 256


class SegmentationData(lightning.LightningDataModule):
    """Training patches, and whole images for validation and test.

    The folder is opened and checked on construction, so that a bad data set stops a training
    before a net is built.

    Raises:
        DataError: the data set or the split file has faults.
    """

    def __init__(
        self,
        config: DataConfig,
        augment: AugmentConfig | None = None,
        *,
        dataset: FolderDataset | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.augment = augment if augment is not None else AugmentConfig()
        spec_path = None if config.spec is None else Path(config.spec)
        self.dataset = dataset or open_folder(Path(config.root), spec_path, progress=progress)
        self.split = _split(self.dataset, config)
        self.patch: tuple[int, int] | None = None
        if config.working_size is None:
            self.patch = config.patch or choose_patch(self.dataset, self.split.train)
        self._start = (0, 0)

    @property
    def channels(self) -> int:
        """Channels of every image."""
        return self.dataset.channels

    @property
    def classes(self) -> tuple[SegmentClass, ...]:
        """Classes by index."""
        return self.dataset.classes

    def class_weights(self) -> Float[Tensor, " k"]:
        """Return weights for the loss: 1 / sqrt(frequency in the training part), of mean 1.

        Ignored pixels count nowhere. A class that the training part does not have gets the
        greatest weight of the others; it never meets a pixel.
        """
        facts = [self.dataset.facts[stem] for stem in self.split.train]
        counts = np.array([fact.class_pixels for fact in facts], dtype=np.float64).sum(axis=0)
        weights = np.zeros(len(counts))
        np.divide(1.0, np.sqrt(counts), out=weights, where=counts > 0)
        weights[counts == 0] = weights.max() if counts.any() else 1.0
        return torch.from_numpy(weights / weights.mean()).float()

    def training_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and std of each channel over all pixels of the training part, raw."""
        totals = np.zeros((self.channels, 3))  # pixels, sum, sum of squares
        for case in self.dataset.select(self.split.train):
            image_chw = to_chw_float32(load_image(case, self.channels))
            mean, std = image_statistics(image_chw).astype(np.float64).T
            pixels = image_chw[0].size
            totals += pixels * np.stack([np.ones_like(mean), mean, mean**2 + std**2], axis=1)
        mean = totals[:, 1] / totals[:, 0]
        # A channel that is constant everywhere must not become a division by 0.
        std = np.sqrt(np.maximum(totals[:, 2] / totals[:, 0] - mean**2, 0))
        std = np.where(std > 0, std, 1.0)
        return tuple(float(value) for value in mean), tuple(float(value) for value in std)

    def start_at(self, *, epoch: int, batches: int) -> None:
        """Let training begin in ``epoch``, over with ``batches`` of its batches.

        The order of an epoch follows from its number, so what was shown before is left out
        without loading it.
        """
        self._start = (epoch, batches * self.config.batch_size)

    def train_samples(self) -> PatchSamples:
        """Return the data set behind ``train_dataloader``."""
        config = self.config
        whole = config.working_size is not None
        augment = build_augment(
            self.augment,
            config.working_size or self.patch or (PATCH_MAX_PX, PATCH_MAX_PX),
            channels=self.channels,
            class_names=tuple(c.name for c in self.classes),
            whole=whole,
        )
        cache = self._cache(self.split.train, max(1, config.workers), config.working_size)
        return PatchSamples(
            cache,
            augment,
            seed=config.seed,
            patches_per_image=config.patches_per_image,
            foreground_fraction=0.0 if whole else config.foreground_fraction,
            draws=self._draws(),
        )

    def _draws(self) -> Draws | None:
        """Return how often images are drawn; None: equally often."""
        config = self.config
        if config.rare_share == 0 and config.area_power == 0:
            return None
        factors = repeat_factors(
            [self.dataset.facts[stem] for stem in self.split.train],
            rare_share=config.rare_share,
            area_power=config.area_power,
            patch_hw=self.patch,
            background=self.dataset.spec.task == "multiclass",
        )
        samples = len(factors) * config.patches_per_image
        return Draws(factors, samples=samples, seed=config.seed)

    def train_dataloader(self) -> TimedLoader:
        """Return batches of altered patches; the last, smaller batch is left out.

        A loader draws a seed for its workers each time that it starts them. With a generator of
        its own it leaves torch's alone, and the net's dropout is the same with any number.
        """
        samples = self.train_samples()
        if len(samples) < self.config.batch_size:
            raise DataError(
                f"{len(samples)} training samples do not fill one batch of "
                f"{self.config.batch_size}; lower batch_size or raise patches_per_image"
            )
        workers = self.config.workers
        return TimedLoader(
            samples,
            batch_size=self.config.batch_size,
            sampler=EpochOrder(len(samples), seed=self.config.seed, start=self._start),
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_prepare_worker if workers > 0 else None,
            pin_memory=torch.cuda.is_available(),
            drop_last=True,
            generator=torch.Generator(),
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """Return the whole validation images, one at a time, unaltered."""
        return self._whole(self.split.val)

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return the whole test images, one at a time, unaltered."""
        return self._whole(self.split.test)

    def _whole(self, stems: tuple[str, ...]) -> DataLoader[Sample]:
        # In the main process: whole images are large to send, and cheap beside the net.
        return DataLoader(
            WholeImages(self._cache(stems, 4, None)), batch_size=1, generator=torch.Generator()
        )

    def _cache(
        self, stems: tuple[str, ...], share: int, working_size: tuple[int, int] | None
    ) -> CaseCache:
        return CaseCache(
            self.dataset.select(stems),
            self.dataset.spec,
            self.dataset.channels,
            max_bytes=self.config.cache_mb * 1_000_000 // share,
            working_size=working_size,
        )


def choose_patch(dataset: FolderDataset, stems: tuple[str, ...]) -> tuple[int, int]:
    """Return a square patch: a multiple of 32 px within the median image, at most 256 px."""
    sides = [min(dataset.facts[s].height_px, dataset.facts[s].width_px) for s in stems]
    side = int(median(sides)) // PATCH_STEP_PX * PATCH_STEP_PX
    side = min(max(side, PATCH_STEP_PX), PATCH_MAX_PX)
    return side, side


def _split(dataset: FolderDataset, config: DataConfig) -> Split:
    split = find_split(dataset, config)
    if config.split_file is not None and not Path(config.split_file).is_file():
        write_split(split, Path(config.split_file))
    return split


def _prepare_worker(worker: int) -> None:
    # Ctrl-C goes to the whole group of processes; the main one still needs the batch it waits for.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Workers are the parallelism; OpenCV's own threads would fight them for the cores.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
