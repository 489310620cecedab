"""Last stage: logits -> labels and probabilities.

Written elementwise, class by class: over axis 1, onnxruntime's Softmax cost 74 ms and its ArgMax
5 ms at 1024 x 1024 where this costs 10 ms for both, and no label changes.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

Task = Literal["multiclass", "multilabel"]


class Activate(nn.Module):
    """Labels from the logits themselves, probabilities beside them.

    ``thresholds_prob`` t, one per class, move the labels and nothing else, as
    ``contract/decision.py`` says: multiclass argmax p_k / t_k is argmax of logits - log t,
    multilabel p_k > t_k is logits > log(t / (1 - t)).
    """

    def __init__(self, task: Task, *, thresholds_prob: Sequence[float] | None = None) -> None:
        super().__init__()
        self.task = task
        self.offsets: tuple[float, ...] | None = None
        if thresholds_prob is not None:
            away = math.log if task == "multiclass" else _logit
            self.offsets = tuple(away(threshold) for threshold in thresholds_prob)

    def forward(
        self, logits: Float[Tensor, "b k h w"]
    ) -> tuple[UInt8[Tensor, "b *k h w"], Float[Tensor, "b k h w"]]:
        """Return labels (``[b, h, w]`` class indices; multilabel ``[b, k, h, w]`` of 0/1) and
        probabilities. The lowest index wins a tie, as in argmax.
        """  # noqa: D205
        return self.labels(logits), probabilities_of(logits, self.task)

    def labels(self, logits: Float[Tensor, "b k h w"]) -> UInt8[Tensor, "b *k h w"]:
        """Return the labels alone."""
        if self.task == "multilabel":
            if self.offsets is None:
                return (logits > 0).to(torch.uint8)
            present = [logits[:, k] > offset for k, offset in enumerate(self.offsets)]
            return torch.stack(present, dim=1).to(torch.uint8)
        if logits.shape[1] == 2:
            least = 0.0 if self.offsets is None else self.offsets[1] - self.offsets[0]
            return (logits[:, 1] - logits[:, 0] > least).to(torch.uint8)
        planes = [logits[:, index] for index in range(logits.shape[1])]
        if self.offsets is not None:
            planes = [plane - offset for plane, offset in zip(planes, self.offsets, strict=True)]
        best, labels = planes[0], torch.zeros_like(planes[0])
        for index, plane in enumerate(planes[1:], start=1):
            labels = torch.where(plane > best, float(index), labels)
            best = torch.maximum(best, plane)
        return labels.to(torch.uint8)


def probabilities_of(logits: Float[Tensor, "b k h w"], task: Task) -> Float[Tensor, "b k h w"]:
    """Return softmax over the classes, or for ``multilabel`` a sigmoid each."""
    if task == "multilabel":
        return torch.sigmoid(logits)
    if logits.shape[1] == 2:
        difference = logits[:, 1] - logits[:, 0]
        return torch.stack([torch.sigmoid(-difference), torch.sigmoid(difference)], dim=1)
    planes = [logits[:, index] for index in range(logits.shape[1])]
    best = planes[0]
    for plane in planes[1:]:
        best = torch.maximum(best, plane)
    weights = [torch.exp(plane - best) for plane in planes]
    total = torch.stack(weights).sum(dim=0) if len(weights) > 8 else _sum(weights)
    return torch.stack([weight / total for weight in weights], dim=1)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _sum(planes: list[Tensor]) -> Tensor:
    total = planes[0]
    for plane in planes[1:]:
        total = total + plane
    return total
