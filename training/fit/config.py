"""All that `fit` can be told, as one tree of typed settings.

Nothing here or below imports torch or Lightning, so that `fit --help` and `plan` answer at once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from training.data.config import DataConfig
from training.data.recipe import AugmentConfig
from training.nets.config import NetConfig

LossKind = Literal["dice_ce", "dice", "ce", "focal", "tversky", "dice_focal", "tversky_ce"]


@dataclass(frozen=True)
class LossConfig:
    """What training minimises: ``overlap_weight`` × overlap term + ``pixel_weight`` × pixel term.

    Attributes:
        kind: which terms there are. ``ce`` is binary cross-entropy per class for multilabel tasks.
        overlap_weight: factor of the Dice or Tversky term.
        pixel_weight: factor of the cross-entropy or focal term.
        class_weights: weight of each class in the pixel term, index order; ``balanced`` takes
            those that the data set's counts give; None weighs all alike. The overlap term is a
            mean over classes and needs none.
        include_background: whether class 0 counts in the overlap term of a multiclass task.
        smooth_px: added to both sides of the Dice fraction, in pixels.
        tversky_alpha: cost of a false positive; 0.5 and 0.5 make Dice.
        tversky_beta: cost of a false negative; above alpha it favours recall.
        focal_gamma: how far easy pixels are played down; 0 is cross-entropy.
        deep_supervision: whether coarse levels of the decoder answer, too, while training; the
            exported model is built as without.
    """

    kind: LossKind = "dice_ce"
    overlap_weight: float = 1.0
    pixel_weight: float = 1.0
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    include_background: bool = False
    smooth_px: float = 1.0
    tversky_alpha: float = 0.3
    tversky_beta: float = 0.7
    focal_gamma: float = 2.0
    deep_supervision: bool = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: a field does not fit; the text says what came and what is expected.
        """
        if self.kind not in get_args(LossKind):
            kinds = ", ".join(get_args(LossKind))
            raise ValueError(f"kind must be one of {kinds}; got {self.kind!r}")
        for name in ("overlap_weight", "pixel_weight", "smooth_px"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("tversky_alpha", "tversky_beta", "focal_gamma"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.tversky_alpha == 0 and self.tversky_beta == 0:
            raise ValueError("tversky_alpha and tversky_beta are both 0, so no error would cost")
        weights = self.class_weights
        if isinstance(weights, str):
            if weights != "balanced":
                raise ValueError(
                    f"class_weights must be 'balanced', numbers or null; got {weights!r}"
                )
        elif weights is not None:
            object.__setattr__(self, "class_weights", tuple(weights))
            if any(weight < 0 for weight in weights) or not any(weights):
                raise ValueError(
                    f"class_weights must be 0 or more, one of them above 0; got {weights}"
                )


@dataclass(frozen=True)
class OptimiserConfig:
    """How weights move.

    Attributes:
        kind: AdamW, or SGD with Nesterov momentum 0.99 (nnU-Net's).
        lr: highest learning rate.
        weight_decay: decoupled for AdamW; weights of convolutions only, never biases or norms.
        schedule: onecycle (Smith 2018), cosine, poly ((1 - t)^0.9, nnU-Net's) or constant.
        warmup_fraction: share of all steps in which onecycle rises.
        ema_decay: validate, choose and export a moving average of the weights instead of the last
            ones, e.g. 0.999; null: none.
    """

    kind: Literal["adamw", "sgd"] = "adamw"
    lr: float = 2e-3
    weight_decay: float = 1e-2
    schedule: Literal["onecycle", "cosine", "poly", "constant"] = "onecycle"
    warmup_fraction: float = 0.15
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"optimiser.lr must be above 0, got {self.lr}")
        if not 0 <= self.weight_decay < 1:
            raise ValueError(f"optimiser.weight_decay must be in [0, 1), got {self.weight_decay}")
        if not 0 < self.warmup_fraction < 1:
            raise ValueError(
                f"optimiser.warmup_fraction must be in (0, 1), got {self.warmup_fraction}"
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"optimiser.ema_decay must be in (0, 1), got {self.ema_decay}")


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
        seed: of the weights; ``data.seed`` is that of split, order and augmentation, and planned as
            the same number.
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
        if self.trainer.get("precision") in ("16-true", "bf16-true"):
            raise ValueError(
                f"trainer.precision {self.trainer['precision']} would round the image's "
                "intensities to 11 or 8 bits before they are normalised; take bf16-mixed, or "
                "32-true"
            )
        # Lightning takes a 0 here and divides by it once it trains.
        for name in ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval"):
            count = self.trainer.get(name)
            if isinstance(count, int | float) and not count > 0:
                raise ValueError(f"trainer.{name} must be above 0, got {count}")
        for name in ("max_epochs", "max_steps"):
            if self.trainer.get(name) == 0:
                raise ValueError(f"trainer.{name} is 0, which trains nothing; give 1 or more")
