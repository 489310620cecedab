"""LossConfig -> the loss that training minimises.

The loss is called with raw logits and the mask as stored: ``loss(logits, target)``. A new kind is
one entry of ``KINDS``.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from training.fit.config import LossConfig, LossKind
from training.fit.loss_terms import OverlapTerm, PixelTerm, Task, one_hot_and_valid

__all__ = ["KINDS", "LossConfig", "LossKind", "SegmentationLoss", "build_loss"]


@dataclass(frozen=True)
class Recipe:
    """Which terms a kind adds up; None leaves one out."""

    overlap: Literal["dice", "tversky"] | None
    pixel: Literal["ce", "focal"] | None


KINDS: dict[LossKind, Recipe] = {
    "dice_ce": Recipe("dice", "ce"),
    "dice": Recipe("dice", None),
    "ce": Recipe(None, "ce"),
    "focal": Recipe(None, "focal"),
    "tversky": Recipe("tversky", None),
    "dice_focal": Recipe("dice", "focal"),
    "tversky_ce": Recipe("tversky", "ce"),
}


class SegmentationLoss(nn.Module):
    """Weighted sum of an overlap term and a pixel term, always in float32.

    Pixels whose target is ``ignore`` have a gradient of exactly 0.
    """

    def __init__(
        self,
        *,
        task: Task,
        classes: int,
        ignore: int | None,
        overlap: OverlapTerm | None,
        overlap_weight: float,
        pixel: PixelTerm | None,
        pixel_weight: float,
    ) -> None:
        super().__init__()
        self.task = task
        self.classes = classes
        self.ignore = ignore
        self.overlap = overlap
        self.overlap_weight = overlap_weight
        self.pixel = pixel
        self.pixel_weight = pixel_weight

    def forward(
        self, logits: Float[Tensor, "b k h w"], target: Integer[Tensor, "b *k h w"]
    ) -> Float[Tensor, ""]:
        """Return the loss as a scalar; ``target`` is [B, H, W], multilabel [B, K, H, W].

        Raises:
            ValueError: the shapes do not belong together.
        """
        b, k, h, w = logits.shape
        expected = (b, h, w) if self.task == "multiclass" else (b, k, h, w)
        if k != self.classes or tuple(target.shape) != expected:
            raise ValueError(
                f"expected logits [B, {self.classes}, H, W] and a {self.task} target of their "
                f"size; got logits {list(logits.shape)} and target {list(target.shape)}"
            )
        one_hot, valid = one_hot_and_valid(
            target, task=self.task, classes=self.classes, ignore=self.ignore
        )
        # Sums over 1e5 pixels in bf16 would stop counting at 256, so autocast ends here.
        logits = logits.float()
        total = logits.new_zeros(())
        if self.overlap is not None:
            total = total + self.overlap_weight * self.overlap(logits, one_hot, valid)
        if self.pixel is not None:
            total = total + self.pixel_weight * self.pixel(logits, one_hot, valid)
        return total


def build_loss(
    config: LossConfig,
    *,
    task: Task,
    classes: int,
    ignore: int | None = 255,
    class_weights: Float[Tensor, " k"] | None = None,
) -> SegmentationLoss:
    """Return the loss that ``config`` describes.

    Args:
        config: kind and weights.
        task: ``multiclass`` (softmax, class 0 is the background) or ``multilabel`` (sigmoids).
        classes: K of the logits.
        ignore: target value whose pixels are left out; None counts every pixel.
        class_weights: the data's own weights, used where ``config.class_weights`` is
            ``balanced`` and nowhere else.

    Raises:
        ValueError: the number of weights is not K, balanced weights are missing, or the overlap
            term would have no class.
    """
    weights = torch.ones(classes)
    if config.class_weights == "balanced":
        if class_weights is None:
            raise ValueError("class_weights is 'balanced', but the data's weights were not given")
        weights = class_weights.detach()
    elif config.class_weights is not None:
        weights = torch.tensor(config.class_weights)
    if weights.shape != (classes,):
        raise ValueError(
            f"class_weights needs one number for each of the {classes} classes, "
            f"got {list(weights.shape)}"
        )
    recipe = KINDS[config.kind]
    if recipe.overlap and task == "multiclass" and classes == 1 and not config.include_background:
        raise ValueError(
            "a multiclass task with 1 class has only background; give 2 classes, or multilabel"
        )
    tversky = recipe.overlap == "tversky"
    return SegmentationLoss(
        task=task,
        classes=classes,
        ignore=ignore,
        overlap_weight=config.overlap_weight,
        pixel_weight=config.pixel_weight,
        overlap=None
        if recipe.overlap is None
        else OverlapTerm(
            task=task,
            alpha=config.tversky_alpha if tversky else 0.5,
            beta=config.tversky_beta if tversky else 0.5,
            # Dice's fraction is (2 TP + smooth) / (…): twice the Tversky one's.
            smooth_px=config.smooth_px if tversky else config.smooth_px / 2,
            include_background=config.include_background,
        ),
        pixel=None
        if recipe.pixel is None
        else PixelTerm(
            task=task,
            gamma=config.focal_gamma if recipe.pixel == "focal" else 0.0,
            class_weights=weights,
        ),
    )
