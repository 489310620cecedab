"""The order in which samples are shown: shuffled, and the same for the same seed and epoch."""

from collections.abc import Iterator

import numpy as np
import torch.distributed
from torch.utils.data import Sampler

from training.data.samples import SampleKey


class EpochOrder(Sampler[SampleKey]):
    """Shuffles by (seed, epoch) and tells the epoch to the data set through its keys.

    Lightning calls ``set_epoch`` before each epoch. Under DDP every process takes its own share
    of the same order (the trainer's ``use_distributed_sampler`` must be off, or it would shuffle
    once more).
    """

    def __init__(self, samples: int, *, seed: int, start: tuple[int, int] = (0, 0)) -> None:
        """Begin at ``start``: an epoch, and how many of its samples this process has had."""
        self.samples = samples
        self.seed = seed
        self.start_epoch, self.start_sample = start
        self.epoch = self.start_epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of samples of a whole epoch for this process.

        A remainder is left out. An epoch that was begun before has its whole length too, since
        Lightning counts on from where it stood.
        """
        return self.samples // _processes()[1]

    def __iter__(self) -> Iterator[SampleKey]:
        """Yield the keys of one epoch; of the one that was begun before, the rest."""
        epoch = self.epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(self.samples)
        rank, processes = _processes()
        begun = self.start_sample if epoch == self.start_epoch else 0
        for index in order[rank::processes][begun : len(self)]:
            yield SampleKey(epoch, int(index))


def _processes() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
