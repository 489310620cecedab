"""Gradient flow while a net is trained: ``gradient_flow.csv`` in the run, and its figure."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from training.fit.step_meter import StepMeter, meter_layers
from training.nets.places import LayerPlace
from training.probe.gradient_flow import NAME, LayerGradient, draw_gradient_flow, layer_gradient
from training.probe.growing_table import GrowingTable


class WatchGradients(Callback):
    """Note gradient and update of each layer at the first step and every ``every_n_steps``.

    It reads what training has computed anyway, so the weights come out as without it, bit for
    bit. Gradients are those before clipping. The first step's are those of the initialisation.
    A training that is gone on with keeps the rows of its steps so far.

    Args:
        every_n_steps: how many optimiser steps lie between two rows of a layer.
        folder: where; None: the run directory.
    """

    def __init__(self, every_n_steps: int = 50, folder: Path | None = None) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be 1 or more, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.folder = folder
        self._table: GrowingTable[LayerGradient] | None = None
        self._places: Sequence[LayerPlace] = ()
        self._meter: StepMeter | None = None
        self._step: int | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the net once, when the first batch shows how many channels it takes."""
        if self._meter is not None:
            return
        self._places, self._meter = meter_layers(pl_module, batch)
        folder = self.folder or Path(trainer.default_root_dir)
        self._table = GrowingTable(folder / f"{NAME}.csv", LayerGradient)
        if trainer.is_global_zero:
            self._table.begin(trainer.global_step)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any
    ) -> None:
        """Note where the step begins."""
        if self._meter is not None and trainer.global_step % self.every_n_steps == 0:
            self._meter.before_step()
            self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Write the rows of a step that was measured; frozen layers have none."""
        if self._step is None or self._meter is None or self._table is None:
            return
        step, self._step = self._step, None
        norms = self._meter.after_step().T.tolist()
        if trainer.is_global_zero:
            self._table.add(
                [
                    layer_gradient(place, order, step=step, gradient=g, weight=w, update=u)
                    for (order, place), (g, w, u, _) in zip(
                        enumerate(self._places), norms, strict=True
                    )
                    if not math.isnan(w)
                ]
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw a few steps, spread over the training, the first and the last among them."""
        if self._table is None or not trainer.is_global_zero:
            return
        if rows := self._table.read():
            draw_gradient_flow(rows, self._table.path.parent)
