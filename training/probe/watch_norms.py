"""Norm preservation while a net is trained: ``norm_preservation.csv`` in the run, and a figure."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from contract.errors import RequestInvalid
from training.fit.module import SegmentationModule
from training.nets.units import net_units
from training.probe.growing_table import GrowingTable
from training.probe.norm_preservation import NAME, UnitNorm, UnitNorms, draw_norm_preservation


class WatchNorms(Callback):
    """Note each unit's ratio of gradients at the first step and every ``every_n_steps``.

    Of steps that add up several batches, the first batch is measured. Gradients pass unchanged,
    so the weights come out as without it, bit for bit. A training that is gone on with keeps the
    rows of its steps so far.

    Args:
        every_n_steps: how many optimiser steps lie between two rows of a unit.
        folder: where; None: the run directory.
    """

    def __init__(self, every_n_steps: int = 50, folder: Path | None = None) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be 1 or more, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.folder = folder
        self._table: GrowingTable[UnitNorm] | None = None
        self._norms: UnitNorms | None = None
        self._hooks: list[Any] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the units, and go on with the table where there is one.

        Raises:
            RequestInvalid: the net is compiled, or not made of our blocks.
        """
        if not isinstance(pl_module, SegmentationModule):
            raise TypeError(f"expected a SegmentationModule, got {type(pl_module).__name__}")
        if getattr(pl_module.graph.net, "_compiled_call_impl", None) is not None:
            raise RequestInvalid(
                "WatchNorms reads states of the net that torch.compile melts together; leave out "
                "--compile, or WatchNorms"
            )
        self._norms = UnitNorms(net_units(pl_module.graph.net))
        folder = self.folder or Path(trainer.default_root_dir)
        self._table = GrowingTable(folder / f"{NAME}.csv", UnitNorm)
        if trainer.is_global_zero:
            self._table.begin(trainer.global_step)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Watch the passes of this batch where its step is due."""
        first = batch_idx % trainer.accumulate_grad_batches == 0
        if self._norms is not None and first and trainer.global_step % self.every_n_steps == 0:
            self._hooks = self._norms.attach()

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what the passes left."""
        if not self._hooks or self._norms is None or self._table is None:
            return
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        rows = self._norms.rows(trainer.global_step)
        if trainer.is_global_zero:
            self._table.add(rows)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw a few steps, spread over the training."""
        if self._table is not None and trainer.is_global_zero and (rows := self._table.read()):
            draw_norm_preservation(rows, self._table.path.parent)
