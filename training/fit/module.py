"""The LightningModule: it steps, logs, optimises, and nothing else."""

from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn

from contract.metrics import ClassScore, score_labels
from training.fit.optimiser import OptimiserConfig, build_optimiser, build_schedule
from training.fit.validation_tiles import (
    memory_of,
    tiles_where_too_large,
    validate_in_tiles,
)
from training.graph.assemble import ModelGraph
from training.nets.deep_supervision import DeepSupervision

# Score of a validation pass in which no case holds any class: the worst value, so that such a
# pass never becomes the best checkpoint.
NO_CASE_SCORE = 0.0
EPOCH_LOSS_KEY = "longskip_epoch_loss"


class SegmentationModule(L.LightningModule):
    """Train a ``ModelGraph`` on patches and score it on whole images.

    Batches are dicts: ``image`` float32 [B, C, H, W] raw intensities, ``statistics`` float32
    [B, C, 2] (mean and std of the image that the patch was cut from), ``mask`` uint8 [B, H, W]
    (multilabel [B, K, H, W]), in validation also ``stem``, a list of B names.
    """

    def __init__(
        self,
        graph: ModelGraph,
        *,
        loss: nn.Module,
        optimiser: OptimiserConfig,
        class_names: tuple[str, ...],
        ignore: int | None,
        deep: DeepSupervision | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        """``memory_bytes`` bounds whole validation images; None: by the machine's or GPU's."""
        super().__init__()
        self.graph = graph
        self.loss = loss
        # Beside the graph, so that it is trained with it and never exported.
        self.deep = deep
        self.optimiser = optimiser
        self.class_names = class_names
        self.ignore = ignore
        self.memory_bytes = memory_bytes
        self.cases: dict[str, list[ClassScore]] = {}
        self._loss_sum: Tensor | float = 0.0
        self._loss_steps = 0

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's mean loss; an epoch that is gone on with keeps what it has."""
        self._loss_sum, self._loss_steps = 0.0, 0

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """Return the loss of one batch of patches."""
        loss = self._loss_of(batch)
        # The rank's own loss: reducing it over ranks at each step would cost a synchronisation.
        self.log("train/loss_step", loss.detach(), prog_bar=True)
        self._loss_sum = self._loss_sum + loss.detach().float()
        self._loss_steps += 1
        return loss

    def _loss_of(self, batch: dict[str, Any]) -> Tensor:
        loss: Tensor
        if self.deep is None:
            logits = self.graph.logits(batch["image"], batch["statistics"])
            loss = self.loss(logits, batch["mask"])
            return loss
        with self.deep.watching(self.graph.net) as seen:
            logits = self.graph.logits(batch["image"], batch["statistics"])
        loss = self.deep.loss(self.loss, logits, batch["mask"], seen)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the mean loss of the epoch's steps.

        Lightning's own mean is in no checkpoint: after a resume it would be that of the rest.
        """
        self.log("train/loss_epoch", self.epoch_loss())

    def epoch_loss(self) -> float:
        """Return the mean loss of the epoch's steps so far."""
        return float(self._loss_sum) / max(self._loss_steps, 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the begun mean."""
        checkpoint[EPOCH_LOSS_KEY] = [float(self._loss_sum), self._loss_steps]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the begun mean."""
        self._loss_sum, self._loss_steps = checkpoint.get(EPOCH_LOSS_KEY, (0.0, 0))

    def on_validation_epoch_start(self) -> None:
        """Forget the last pass."""
        self.cases = {}

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Score each image of the batch by itself, one past this machine's memory in tiles."""
        # torch.compile would write new code for every size of whole image.
        with torch.compiler.set_stance("force_eager"):
            labels, loss = self._labels_and_loss(batch)
        self.log("val/loss", loss, batch_size=len(batch["stem"]))
        for stem, label, truth in zip(batch["stem"], labels, batch["mask"], strict=True):
            self.cases[stem] = score_labels(
                label,
                truth.cpu().numpy(),
                task=self.graph.activate.task,
                n_classes=len(self.class_names),
                ignore=self.ignore,
            )

    def _labels_and_loss(self, batch: dict[str, Any]) -> tuple[NDArray[np.uint8], Tensor | float]:
        image, classes = batch["image"], len(self.class_names)
        memory = self.memory_bytes or memory_of(image.device)
        tiles = None
        if len(image) == 1:
            tiles = tiles_where_too_large(self.graph, image, classes=classes, memory_bytes=memory)
        if tiles is None:
            logits = self.graph.logits(image)
            labels, _ = self.graph.activate(logits)
            return labels.cpu().numpy(), self.loss(logits, batch["mask"])
        label, loss = validate_in_tiles(
            *(self.graph, self.loss, image[0], batch["statistics"], batch["mask"][0], tiles),
            classes=classes,
        )
        return label[None], loss

    def on_validation_epoch_end(self) -> None:
        """Log mean Dice and IoU per class and over classes; empty cases are left out."""
        if not self.cases:
            return
        foreground = slice(0 if self.graph.activate.task == "multilabel" else 1, None)
        for metric in ("dice", "iou"):
            rows = [[getattr(score, metric) for score in scores] for scores in self.cases.values()]
            by_class = torch.tensor(rows, dtype=torch.float64).nanmean(dim=0)[foreground]
            for name, value in zip(self.class_names[foreground], by_class, strict=True):
                if not value.isnan():
                    # No slash: MLflow's file store cannot hold val/dice and val/dice/cell.
                    self.log(f"val/{metric}.{name}", value.float(), sync_dist=True)
            mean = torch.nan_to_num(by_class.nanmean(), nan=NO_CASE_SCORE).float()
            self.log(f"val/{metric}", mean, prog_bar=metric == "dice", sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser and its schedule, stepped once per optimiser step."""
        trained = self.graph if self.deep is None else nn.ModuleList([self.graph, self.deep])
        optimiser = build_optimiser(trained, self.optimiser)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = build_schedule(optimiser, self.optimiser, steps=steps)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
