"""The two terms that every loss here is made of: one over regions, one over pixels.

Both are written out, because what the libraries have does not fit:
smp's Dice and Tversky zero a class that the batch lacks, so false positives on empty batches cost
nothing; smp's multiclass focal is one sigmoid per class where our nets answer by a softmax;
MONAI's are right on full masks (the tests hold ours to them) but take 15 s to import; and torch's
cross-entropy gives NaN on a batch that is ignored throughout and has no deterministic CUDA path.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from training.fit.processes import process_count, sum_over_processes

Task = Literal["multiclass", "multilabel"]


def one_hot_and_valid(
    target: Integer[Tensor, "b *k h w"], *, task: Task, classes: int, ignore: int | None
) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b v h w"]]:
    """Return the target as 0/1 per class, and 1 where it counts (v is 1, multilabel: K).

    Both are float32. Ignored pixels are 0 in every class.
    """
    valid = torch.ones_like(target, dtype=torch.bool) if ignore is None else target != ignore
    indices = torch.where(valid, target, 0).long()
    if task == "multilabel":
        return indices.float(), valid.float()  # [B, K, H, W] twice
    one_hot = F.one_hot(indices, classes).movedim(-1, 1).float()  # [B, K, H, W]
    valid_b1hw = valid.unsqueeze(1).float()  # [B, 1, H, W]
    return one_hot * valid_b1hw, valid_b1hw


class OverlapTerm(nn.Module):
    """1 - Tversky index (Salehi 2017 eq. 3), the mean over classes; alpha = beta = 0.5 is Dice.

    Counts are pooled over the batch. So a patch without foreground still weighs in: each false
    positive on it enlarges the denominator as it would elsewhere, where a Dice per patch would
    have next to no slope. In a batch without any foreground the slope is
    ``smooth / (false positives + smooth)²``, which is why ``smooth`` is 1 pixel and not 1e-5.
    A batch that is ignored throughout gives 0.
    """

    def __init__(
        self,
        *,
        task: Task,
        alpha: float,
        beta: float,
        smooth_px: float,
        include_background: bool,
    ) -> None:
        super().__init__()
        self.task = task
        self.alpha = alpha
        self.beta = beta
        self.smooth_px = smooth_px
        self.first_class = 0 if include_background or task == "multilabel" else 1

    def forward(
        self,
        logits: Float[Tensor, "b k h w"],
        one_hot: Float[Tensor, "b k h w"],
        valid: Float[Tensor, "b v h w"],
    ) -> Float[Tensor, ""]:
        """Return the loss; ``logits`` are float32."""
        p = torch.sigmoid(logits) if self.task == "multilabel" else torch.softmax(logits, dim=1)
        p = (p * valid)[:, self.first_class :]  # [B, K or K - 1, H, W]
        y = one_hot[:, self.first_class :]
        over_batch = (0, 2, 3)
        sums = torch.stack([(p * y).sum(over_batch), p.sum(over_batch), y.sum(over_batch)])
        if self.training:
            # Dice of all processes' batches: the mean of their own Dices is another loss.
            sums = sum_over_processes(sums)
        true_positive, predicted, true = sums  # [K or K - 1] each
        false_positive = predicted - true_positive
        false_negative = true - true_positive
        index = (true_positive + self.smooth_px) / (
            true_positive
            + self.alpha * false_positive
            + self.beta * false_negative
            + self.smooth_px
        )
        mean: Tensor = index.mean()
        return 1.0 - mean


class PixelTerm(nn.Module):
    """Focal loss (Lin 2017 eq. 4); ``gamma`` 0 is cross-entropy (multilabel: binary).

    The weighted mean over the pixels that count: each weighs what ``class_weights`` gives its true
    class (multilabel: what it gives the class at hand, present or not). A batch that is ignored
    throughout gives 0.
    """

    class_weights: Tensor

    def __init__(self, *, task: Task, gamma: float, class_weights: Float[Tensor, " k"]) -> None:
        super().__init__()
        self.task = task
        self.gamma = gamma
        self.register_buffer("class_weights", class_weights.float(), persistent=False)

    def forward(
        self,
        logits: Float[Tensor, "b k h w"],
        one_hot: Float[Tensor, "b k h w"],
        valid: Float[Tensor, "b v h w"],
    ) -> Float[Tensor, ""]:
        """Return the loss; ``logits`` are float32."""
        weights_k11 = self.class_weights[:, None, None]
        if self.task == "multilabel":
            log_p = F.logsigmoid(torch.where(one_hot > 0, logits, -logits))  # of the truth
            weight = valid * weights_k11  # [B, K, H, W]
        else:
            log_p = (F.log_softmax(logits, dim=1) * one_hot).sum(dim=1, keepdim=True)
            weight = (one_hot * weights_k11).sum(dim=1, keepdim=True)  # [B, 1, H, W], ignored: 0
        loss = -log_p
        if self.gamma > 0:
            # Kept off 0, where a gamma below 1 would have an infinite slope.
            missing = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps)
            loss = missing.pow(self.gamma) * loss
        total = weight.sum()
        if self.training:
            # Gradients are averaged over processes, but pixels that count are not spread evenly.
            total = sum_over_processes(total) / process_count()
        return (loss * weight).sum() / total.clamp_min(torch.finfo(weight.dtype).tiny)
