"""How far the members disagree (optional): what their mean does not know because they differ.

Mutual information between the answer and which member gave it (Houlsby 2011, BALD; Gal 2017; for
ensembles Lakshminarayanan 2017 and Smith and Gal 2018), in nats, for each pixel:

    I = H(mean of p_m) - mean of H(p_m)

It is 0 where all members say the same, however unsure, and at most ln(min(members, classes)).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.graph.activate import Task, probabilities_of
from training.graph.pool import LEAST_PROBABILITY


class Disagree(nn.Module):
    """Mutual information from the logits of every member, mirrored views of it averaged first."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, members: list[list[Float[Tensor, "b k h w"]]]) -> Float[Tensor, "b *k h w"]:
        """Return nats ``[b, h, w]``; multilabel ``[b, k, h, w]``, class by class.

        Args:
            members: logits by member and view, before any temperature.
        """
        said = [_mean([probabilities_of(view, self.task) for view in views]) for views in members]
        apart = self.entropy(_mean(said)) - _mean([self.entropy(one) for one in said])
        return torch.relu(apart)  # rounding leaves -1e-8 where all agree

    def entropy(self, p: Float[Tensor, "b k h w"]) -> Float[Tensor, "b *k h w"]:
        """Return the entropy of probabilities in nats."""
        if self.task == "multilabel":
            return _surprise(p) + _surprise(1 - p)
        planes = [_surprise(p[:, index]) for index in range(p.shape[1])]
        return _mean(planes) * len(planes)


def _surprise(p: Tensor) -> Tensor:
    return -p * torch.log(torch.clamp(p, min=LEAST_PROBABILITY))


def _mean(planes: list[Tensor]) -> Tensor:
    total = planes[0]
    for plane in planes[1:]:
        total = total + plane
    return total / len(planes)
