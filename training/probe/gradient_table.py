"""Gradients at initialisation over a grid of nets: how much of them reaches the first layer.

One pass over one batch for each net and seed, so a table of a dozen nets of 70 convolutions takes
seconds. Skips, init, norm, activation, block and depth are settings of ``NetConfig``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from training.fit.config import LossConfig
from training.fit.losses import build_loss
from training.nets.config import NetConfig
from training.probe.backward import Batch, fresh
from training.probe.gradient_flow import gradient_flow, profile


@dataclass(frozen=True)
class GradientRow:
    """One net at its initialisation.

    Attributes:
        convs: convolutions larger than a pixel on the longest way through the net.
        block, long_skips, norm, activation, init: of its ``NetConfig``.
        seed: of its weights.
        gradient_first, gradient_centre, gradient_last: norms of the gradient in the first, the
            middle and the last of the ``convs``.
        first_per_last, centre_per_last: their ratios; 0 is an underflow of float32.
    """

    convs: int
    block: str
    long_skips: str
    norm: str
    activation: str
    init: str
    seed: int
    gradient_first: float
    gradient_centre: float
    gradient_last: float
    first_per_last: float
    centre_per_last: float


def gradient_table(
    configs: Iterable[NetConfig],
    *,
    seeds: Sequence[int],
    batch: Batch,
    classes: int = 2,
    loss: nn.Module | None = None,
) -> list[GradientRow]:
    """Return a row for each net and seed, from one pass in training mode over ``batch``.

    Args:
        configs: the nets.
        seeds: of the weights; each net is drawn once by each.
        batch: ``image`` [B, C, H, W] and ``mask`` [B, H, W], class indices.
        classes: K, which counts the background.
        loss: takes logits and mask; None: the one that ``fit`` takes.
    """
    used = loss or build_loss(LossConfig(), task="multiclass", classes=classes)
    channels = batch["image"].shape[1]
    rows = []
    for config in configs:
        for seed in seeds:
            graph = fresh(config, channels=channels, classes=classes, seed=seed)
            seen = profile(gradient_flow(graph, used, batch))
            rows.append(
                GradientRow(
                    convs=seen.convs,
                    block=config.block,
                    long_skips=_words(config),
                    norm=config.norm,
                    activation=config.activation,
                    init=config.init,
                    seed=seed,
                    gradient_first=seen.first,
                    gradient_centre=seen.centre,
                    gradient_last=seen.last,
                    first_per_last=seen.first_per_last,
                    centre_per_last=seen.centre_per_last,
                )
            )
    return rows


def _words(config: NetConfig) -> str:
    words = config.skips_by_level
    return words[0] if len(set(words)) == 1 else ",".join(words)
