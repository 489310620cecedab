"""Whether the loader starves the net: the share of step time that waits for data."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from training.data.loader import TimedLoader

# Below it, another worker would gain nothing that anybody notices.
TOLERATED_SHARE = 0.10
# Of fewer steps in an epoch a share means little.
LEAST_STEPS = 10
# The first epoch of a process decodes every image; later ones find them in the cache.
EPOCHS_TO_WARM_UP = 1


class DataWait(Callback):
    """Log ``data_wait_share`` for each epoch, and say once where it is above 10 %.

    A step is from asking for its batch to its end, so validation and checkpoints do not count.
    The first step of a process waits for its workers to start and does not count either.
    """

    def __init__(self) -> None:
        self._forget()
        self._waited_before_s = 0.0
        self._began_s = 0.0
        self._epochs = 0
        self._steps = 0
        self._said = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock of a step."""
        self._began_s = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Add a step up."""
        waited_s = _waited_s(trainer)
        if self._steps > 0:
            wait_s = waited_s - self._waited_before_s
            self._wait_s += wait_s
            self._step_s += wait_s + time.perf_counter() - self._began_s
            self._counted += 1
        self._steps += 1
        self._waited_before_s = waited_s

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch's share, and warn in plain words."""
        if self._step_s == 0:
            return
        share, steps = self._wait_s / self._step_s, self._counted
        pl_module.log("data_wait_share", share)
        self._forget()
        self._epochs += 1
        much = share > TOLERATED_SHARE and steps >= LEAST_STEPS
        if much and self._epochs > EPOCHS_TO_WARM_UP and not self._said:
            self._said = True
            if trainer.is_global_zero:
                print(advise(share, epoch=trainer.current_epoch), file=sys.stderr, flush=True)

    def _forget(self) -> None:
        self._wait_s = self._step_s = 0.0
        self._counted = 0


def advise(share: float, *, epoch: int) -> str:
    """Return what a user can do about ``share`` of the step time being spent on waiting."""
    return (
        f"the net waited for data {share:.0%} of epoch {epoch + 1}: raise --data.workers, up to "
        "the number of cores, or --data.cache_mb, or lower --augment.strength"
    )


def _waited_s(trainer: L.Trainer) -> float:
    loader = trainer.train_dataloader
    return loader.waited_s if isinstance(loader, TimedLoader) else 0.0
