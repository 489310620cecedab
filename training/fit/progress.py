"""Progress of a training: a bar in a terminal, one plain line per epoch elsewhere."""

import sys
import time

import lightning as L
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from training.fit.module import SegmentationModule


class PlainProgress(Callback):
    """Print one line per epoch, with an estimate of the time that is left."""

    def __init__(self) -> None:
        self.started_s = 0.0
        self.first_epoch = 0
        self.validated = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; a resumed run counts from its own first epoch."""
        self.started_s = time.monotonic()
        self.first_epoch = trainer.current_epoch

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note that this epoch has a validation Dice of its own."""
        self.validated = "val/dice" in trainer.callback_metrics

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the epoch, its loss and, where it was validated, its Dice."""
        if not trainer.is_global_zero:
            return
        if not isinstance(pl_module, SegmentationModule):
            raise TypeError(f"expected a SegmentationModule, got {type(pl_module).__name__}")
        metrics = trainer.callback_metrics
        done = trainer.current_epoch + 1 - self.first_epoch
        elapsed_s = time.monotonic() - self.started_s
        parts = [f"epoch {trainer.current_epoch + 1}"]
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            parts[0] += f"/{trainer.max_epochs}"
        parts.append(f"loss {pl_module.epoch_loss():.4f}")
        if self.validated:
            parts.append(f"val dice {float(metrics['val/dice']):.4f}")
            self.validated = False
        parts.append(f"{elapsed_s:.0f} s")
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            left = trainer.max_epochs - trainer.current_epoch - 1
            parts.append(f"about {elapsed_s / done * left:.0f} s left")
        print("  ".join(parts), flush=True)


def progress_callback() -> Callback:
    """Return the bar for a terminal, the plain lines for anything else."""
    return TQDMProgressBar() if sys.stderr.isatty() else PlainProgress()
