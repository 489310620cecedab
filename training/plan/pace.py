"""How fast a training goes here: measured on a few of its own steps."""

import os
import statistics
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback

from contract.spec import Normalising
from training.data.datamodule import SegmentationData
from training.data.folder import IGNORE, FolderDataset
from training.fit.config import FitConfig
from training.fit.fit import quieten
from training.fit.losses import build_loss
from training.fit.module import SegmentationModule
from training.graph.assemble import ModelGraph
from training.nets.build import build_net
from training.plan.rules import Pace

# The first steps start workers, compile kernels and fill caches.
WARM_UP_STEPS = 2
LEAST_STEPS = 3
# Of fewer steps than this the fastest counts: other work comes in bursts, a training that proves
# slower is shortened with its schedule, and none is made longer than it was planned.
STEPS_FOR_MEDIAN = 8
MOST_STEPS = 60
VALIDATION_IMAGES = 3
# A time limit below which less is measured: three whole steps took half a minute of one.
SHORT_S = 180.0
SHORT_BATCH = 4
# Share of the time limit that measuring may take, beyond the least number of steps.
MEASURED_SHARE = 0.05
# What of the trainer decides how fast a step is.
KEPT = ("accelerator", "precision", "accumulate_grad_batches", "deterministic", "benchmark")


class Stopwatch(Callback):
    """Note when steps and validation images end, and stop when enough is known."""

    def __init__(self, most_s: float) -> None:
        self.most_s = most_s
        self.started_s = time.monotonic()
        self.step_ends_s: list[float] = []
        self.validation_starts_s: float | None = None
        self.validation_s = 0.0
        self.validated_pixels = 0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Note the time; stop when the time for measuring is over."""
        self.step_ends_s.append(time.monotonic())
        known = len(self.step_ends_s) - WARM_UP_STEPS
        if known >= LEAST_STEPS and self.step_ends_s[-1] - self.started_s > self.most_s:
            trainer.should_stop = True

    def on_validation_batch_start(self, *_: Any) -> None:
        """Start the clock of one image."""
        self.validation_starts_s = time.monotonic()

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Stop the clock of one image."""
        if self.validation_starts_s is not None:
            self.validation_s += time.monotonic() - self.validation_starts_s
            self.validated_pixels += batch["image"].shape[-1] * batch["image"].shape[-2]


def measure_pace(config: FitConfig, dataset: FolderDataset, *, deadline_s: float) -> Pace:
    """Train a few steps of ``config``, throw them away, and return how fast they were.

    Args:
        config: of the training to come.
        dataset: its images, checked.
        deadline_s: of the training, on the clock of ``time.monotonic``.
    """
    began_s = time.monotonic()
    L.seed_everything(config.seed, workers=True, verbose=False)
    quieten()
    short = deadline_s - began_s < SHORT_S
    data_config = config.data
    if short and not _on_gpu(config):
        # A sample takes about as long in a small batch; a GPU would idle.
        data_config = replace(data_config, batch_size=min(data_config.batch_size, SHORT_BATCH))
    data = SegmentationData(data_config, config.augment, dataset=dataset)
    module = _module(config, data)
    watch = Stopwatch(MEASURED_SHARE * (deadline_s - time.monotonic()))
    # Where torchrun started several processes, each measures by itself, on its own GPU.
    alone = LightningEnvironment()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    own_gpu = _on_gpu(config) and local_rank < torch.cuda.device_count()
    devices: int | list[int] = [local_rank] if own_gpu else 1
    options = {name: config.trainer[name] for name in KEPT if name in config.trainer}
    trainer = L.Trainer(
        **options,
        devices=devices,
        plugins=[alone],
        max_epochs=-1,
        max_steps=WARM_UP_STEPS + MOST_STEPS,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch],
    )
    # Lightning warns of a validation_step without images, though none are asked for here.
    trainer.fit(module, data.train_dataloader(), data.val_dataloader())
    ends = watch.step_ends_s[WARM_UP_STEPS - 1 :]
    times = options.get("accumulate_grad_batches") or 1
    steps_s = [after - before for before, after in pairwise(ends)]
    usual = statistics.median if len(steps_s) >= STEPS_FOR_MEDIAN else min
    step_s = usual(steps_s) * times
    validation_s = 0.0
    if data.split.val:
        trainer = L.Trainer(
            accelerator=options.get("accelerator", "auto"),
            precision=options.get("precision"),
            devices=devices,
            plugins=[alone],
            limit_val_batches=1 if short else VALIDATION_IMAGES,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[watch],
        )
        trainer.validate(module, dataloaders=data.val_dataloader(), verbose=False)
        facts = [dataset.facts[stem] for stem in data.split.val]
        pixels = sum(fact.height_px * fact.width_px for fact in facts)
        validation_s = watch.validation_s / watch.validated_pixels * pixels
    # The training begins in the same way once more.
    beginning_s = watch.step_ends_s[0] - began_s
    samples = data_config.batch_size * times
    return Pace(
        step_s, samples, validation_s, max(0.0, deadline_s - time.monotonic() - beginning_s)
    )


def _on_gpu(config: FitConfig) -> bool:
    wanted = config.trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda")
    return wanted and torch.cuda.is_available()


def _module(config: FitConfig, data: SegmentationData) -> SegmentationModule:
    task = data.dataset.spec.task
    graph = ModelGraph(
        build_net(config.net, channels=data.channels, classes=len(data.classes)),
        # Which mean and std are used costs nothing more or less.
        normalising=Normalising(kind="image"),
        task=task,
        working_size=config.data.working_size,
    )
    if config.channels_last:
        graph.net.to(memory_format=torch.channels_last)
    return SegmentationModule(
        graph,
        loss=build_loss(
            config.loss,
            task=task,
            classes=len(data.classes),
            ignore=IGNORE,
            class_weights=data.class_weights() if config.loss.class_weights == "balanced" else None,
        ),
        optimiser=config.optimiser,
        class_names=tuple(c.name for c in data.classes),
        ignore=IGNORE,
    )
