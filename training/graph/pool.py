"""Several answers for one image (folds, mirrors) -> one: the logits of their mean probability.

The mean is taken over probabilities, not logits: a mean of logits is a geometric mean, in which
one net that is wrong and sure outvotes the others. What comes out are logits again, so that
whatever follows needs not know how many answers there were.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.graph.activate import Task, probabilities_of

# Keeps the logarithm finite where every answer's probability underflows to 0.
LEAST_PROBABILITY = torch.finfo(torch.float32).tiny


class Pool(nn.Module):
    """Logits whose softmax (multilabel: sigmoid) is the mean of the answers' probabilities."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, answers: list[Float[Tensor, "b k h w"]]) -> Float[Tensor, "b k h w"]:
        """Return the pooled logits of one or more answers, each ``[B, K, H, W]`` logits."""
        present = _log_mean([probabilities_of(logits, self.task) for logits in answers])
        if self.task == "multiclass":
            return present
        # The absence is averaged by itself: 1 - p has no digits left where p is near 1.
        return present - _log_mean([torch.sigmoid(-logits) for logits in answers])


def _log_mean(planes: list[Tensor]) -> Tensor:
    total = planes[0]
    for plane in planes[1:]:
        total = total + plane
    return torch.log(torch.clamp(total / len(planes), min=LEAST_PROBABILITY))
