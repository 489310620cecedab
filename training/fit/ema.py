"""Exponential moving average of the weights: validated, chosen as best and exported in their place.

    average <- average + (1 - d_n) (weights - average)        after optimiser step n

with d_n = min(decay, (1 + n) / (10 + n)). Without that rise a training of a few hundred steps
would still hold much of its first weights: 0.999^500 = 0.6.
"""

from collections.abc import Callable

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


def rising_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return the step of the average as torch's ``AveragedModel`` calls it.

    It is not called for the first step, whose weights are the first average.
    """

    def average(averaged: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
        share = 1 - min(decay, (1 + int(steps)) / (10 + int(steps)))
        return averaged + share * (current - averaged)

    return average


class AverageWeights(WeightAveraging):
    """Lightning's averaging, with a decay that rises and a training that can be gone on with.

    Checkpoints hold the averages as ``state_dict`` and the weights themselves beside them, so a
    reader gets the averages and a resume both. The statistics of batch norms are averaged too.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(avg_fn=rising_average(decay))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the weights: a checkpoint that is written after this one must hold them.

        Lightning's would put the averages in their place, and a training that a time limit ended
        would go on from there.
        """
