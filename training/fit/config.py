"""All that `fit` can be told, as one tree of typed settings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from training.data.augment import AugmentConfig
from training.data.datamodule import DataConfig
from training.fit.losses import LossConfig
from training.fit.optimiser import OptimiserConfig
from training.nets.config import NetConfig


@dataclass
class FitConfig:
    """Settings of one run.

    Attributes:
        data: the folder of images, how it is split and sampled.
        net: the architecture and its skips.
        loss: what is minimised.
        optimiser: how.
        augment: how training patches are varied.
        trainer: options of ``lightning.Trainer`` by their own names.
        normalising: ``image``: per channel with the image's own mean and std; ``fixed``: with
            those of the training images (where absolute intensities carry meaning, as HU do).
        seed: of the weights; ``data.seed`` is that of split, order and augmentation.
        out: run directory; by default ``runs/<data set>-<skips>-<number>``.
        init_from: checkpoint whose fitting weights are the start.
        resume: run directory to go on with; its own config is used.
        max_minutes: stop after this many minutes; the best checkpoint so far is kept.
        checkpoint_minutes: least time between two last.ckpt within an epoch.
        channels_last: let tensors of the net lie as [B, H, W, C] in memory.
        compile: let torch.compile write the net's training code.
    """

    data: DataConfig
    net: NetConfig = field(default_factory=NetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    trainer: dict[str, Any] = field(default_factory=dict)
    normalising: Literal["image", "fixed"] = "image"
    seed: int = 0
    out: Path | None = None
    init_from: Path | None = None
    resume: Path | None = None
    max_minutes: float | None = None
    checkpoint_minutes: float = 5.0
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.checkpoint_minutes < 0:
            raise ValueError(f"checkpoint_minutes must be >= 0, got {self.checkpoint_minutes}")
