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

    def __init__(self, samples: int, *, seed: int) -> None:
        self.samples = samples
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of samples for this process; a remainder is left out."""
        return self.samples // _processes()[1]

    def __iter__(self) -> Iterator[SampleKey]:
        """Yield the keys of one epoch."""
        epoch = self.epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(self.samples)
        rank, processes = _processes()
        for index in order[rank::processes][: len(self)]:
            yield SampleKey(epoch, int(index))


def _processes() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
