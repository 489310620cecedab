"""LossConfig -> the loss that training minimises.

The loss is called with raw logits and the mask as stored: ``loss(logits, target)``. A new kind is
one entry of ``KINDS``.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from training.fit.loss_terms import OverlapTerm, PixelTerm, Task, one_hot_and_valid

LossKind = Literal["dice_ce", "dice", "ce", "focal", "tversky", "dice_focal", "tversky_ce"]


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

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: a field does not fit; the text says what came and what is expected.
        """
        if self.kind not in get_args(LossKind):
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        for field in ("overlap_weight", "pixel_weight", "smooth_px"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{field} must be above 0, got {getattr(self, field)}")
        for field in ("tversky_alpha", "tversky_beta", "focal_gamma"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"{field} must be at least 0, got {getattr(self, field)}")
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
