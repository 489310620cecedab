"""An alarm in every training: layers whose updates die or explode, said while it can be mended.

Warned once for each part of the net and fault, on the terminal and in ``alarms.csv`` of the run.
Every tenth step is looked at; docs/adr/0021-gradient-alarm.md has what that costs.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from training.fit.alarms import Alarm, new_alarms, sentence, write_alarms
from training.fit.config import FitConfig
from training.fit.gradient_remedies import remedies
from training.fit.judge_steps import LayerStep, StepJudge
from training.fit.step_meter import StepMeter, meter_layers
from training.nets.places import LayerPlace

EVERY_N_STEPS = 10
FIRST_STEPS = 5  # a learning rate that is far too high shows at once


@dataclass(frozen=True)
class _Sample:
    """A measured step on its way from the device to the host.

    Attributes:
        step: optimiser steps taken before.
        norms: float64 [5, layers]: gradient, weight, update, pull, and the loss in every column.
        trained: places of layers that had a gradient.
        rates: learning rates by layer where the pull is not measured, but rate times gradient.
        arrived: that ``norms`` is on the host; None where it was there at once.
    """

    step: int
    norms: Tensor
    trained: frozenset[int]
    rates: tuple[float, ...] | None
    arrived: torch.Event | None

    def layers(self) -> list[LayerStep | None]:
        """Return what the step did to each layer."""
        if self.arrived is not None:
            self.arrived.synchronize()
        layers: list[LayerStep | None] = []
        for place, (gradient, weight, update, pull, _) in enumerate(self.norms.T.tolist()):
            if self.rates is not None:
                pull = self.rates[place] * gradient
            step = LayerStep(gradient, weight, update, pull)
            layers.append(step if place in self.trained else None)
        return layers

    @property
    def loss(self) -> float:
        return float(self.norms[4, 0])


class GradientAlarm(Callback):
    """Warn where layers stand still, take steps that wipe out their weights, or are not finite.

    Args:
        config: the settings, to which the remedies are fitted.
        path: of the table, which is written with the first alarm.
    """

    def __init__(self, config: FitConfig, path: Path) -> None:
        self.config = config
        self.path = path
        self.alarms: list[Alarm] = []
        self._places: Sequence[LayerPlace] = ()
        self._meter: StepMeter | None = None
        self._judge: StepJudge | None = None
        self._step: int | None = None
        self._decay: tuple[float, ...] | None = None
        self._rates: tuple[float, ...] | None = None
        self._waiting: _Sample | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the net once, when the first batch shows how many channels it takes."""
        if self._meter is not None:
            return
        self._places, self._meter = meter_layers(pl_module, batch)
        self._judge = StepJudge(
            rounded=self.config.optimiser.kind == "adamw",
            loss_is_scaled=getattr(trainer.precision_plugin, "scaler", None) is not None,
        )

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Note where the step begins, and what weight decay will take."""
        step = trainer.global_step
        if self._meter is None or (step >= FIRST_STEPS and step % EVERY_N_STEPS):
            return
        self._meter.before_step()
        self._step = step
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        of_layers = [groups.get(id(weight), {}) for weight in self._meter.weights]
        rates = tuple(float(group.get("lr", 0.0)) for group in of_layers)
        if isinstance(optimizer, torch.optim.AdamW):
            decays = [float(group.get("weight_decay", 0.0)) for group in of_layers]
            self._decay = tuple(rate * decay for rate, decay in zip(rates, decays, strict=True))
            self._rates = None
        else:
            # Decay is mixed into what the optimiser remembers: its share of a step is not known.
            self._decay, self._rates = None, rates

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Judge what has arrived on the host, on a GPU the sample before this one."""
        if self._step is None or self._meter is None:
            return
        step, self._step = self._step, None
        norms = self._meter.after_step(self._decay)
        loss = outputs["loss"].detach().to(norms).expand(1, norms.shape[1])
        host, arrived = _to_host(torch.cat([norms, loss]))
        self._judge_waiting(trainer)
        self._waiting = _Sample(step, host, self._meter.trained, self._rates, arrived)
        if arrived is None:
            self._judge_waiting(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Judge the last sample."""
        self._judge_waiting(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return what was said, so that a training that is gone on with does not say it again."""
        return {"alarms": [asdict(alarm) for alarm in self.alarms]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what was said before the checkpoint."""
        self.alarms = [Alarm(**alarm) for alarm in state_dict["alarms"]]

    def _judge_waiting(self, trainer: L.Trainer) -> None:
        sample, self._waiting = self._waiting, None
        if sample is None or self._judge is None or not trainer.is_global_zero:
            return
        verdicts = self._judge.see(sample.step, sample.layers(), loss=sample.loss)
        for fault in dict.fromkeys(verdict.fault for verdict in verdicts):
            fresh = new_alarms(
                self.alarms,
                [verdict for verdict in verdicts if verdict.fault == fault],
                self._places,
                step=sample.step,
                remedies="; ".join(remedies(fault, self.config)),
            )
            if fresh:
                self.alarms += fresh
                write_alarms(self.path, self.alarms)
                print(sentence(fresh, layers=len(self._places)), file=sys.stderr, flush=True)


def _to_host(norms: Tensor) -> tuple[Tensor, torch.Event | None]:
    """Begin to copy to the host; on a GPU nothing waits for it until the event is asked."""
    if norms.device.type != "cuda":
        return norms.cpu(), None
    host = torch.empty(norms.shape, dtype=norms.dtype, pin_memory=True)
    host.copy_(norms, non_blocking=True)
    arrived = torch.Event(norms.device)
    arrived.record()
    return host, arrived
