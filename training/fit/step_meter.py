"""What one optimiser step does to each layer: its gradient, its weights, and how far they move."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from training.fit.module import SegmentationModule
from training.nets.places import LayerPlace, layer_places


def meter_layers(
    pl_module: L.LightningModule, batch: Mapping[str, Any]
) -> tuple[Sequence[LayerPlace], "StepMeter"]:
    """Return where each layer of a net in training stands, and the meter of all of them.

    Args:
        pl_module: the ``SegmentationModule`` in training.
        batch: its first, which shows how many channels the net takes.
    """
    if not isinstance(pl_module, SegmentationModule):
        raise TypeError(f"expected a SegmentationModule, got {type(pl_module).__name__}")
    net = pl_module.graph.net
    places = layer_places(net, channels=batch["image"].shape[1])
    weights = [net.get_submodule(place.name).get_parameter("weight") for place in places]
    return places, StepMeter(weights)


class StepMeter:
    """Measures around a step, and touches nothing: ``before_step``, the step, ``after_step``.

    Norms are Euclidean and in float64, so that the square of a small gradient is not 0. They stay
    where the weights lie; reading them there would make a GPU's host wait.

    Attributes:
        weights: the layers', in the order of the answer.
    """

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self.weights = tuple(weights)
        self._live: list[int] = []
        self._began: list[Tensor] = []
        self._gradients: list[Tensor] = []

    @property
    def trained(self) -> frozenset[int]:
        """Places of the layers that had a gradient in the step that was measured last."""
        return frozenset(self._live)

    @torch.no_grad()
    def before_step(self) -> None:
        """Note gradients and weights; to be called when gradients are complete and unscaled."""
        self._live = [i for i, weight in enumerate(self.weights) if weight.grad is not None]
        weights = [self.weights[i] for i in self._live]
        self._began = [weight.clone() for weight in weights]
        self._gradients = _norms([weight.grad for weight in weights if weight.grad is not None])

    @torch.no_grad()
    def after_step(self, decay: Sequence[float] | None = None) -> Float64[Tensor, "4 layers"]:
        """Return norms by layer: of the gradient, the weights before, the update and the pull.

        The pull is the update without weight decay. Layers without a gradient have NaN.

        Args:
            decay: by layer, the share of the weights that the step took away besides; None: 0.
        """
        device = self.weights[0].device
        norms = torch.full((4, len(self.weights)), torch.nan, dtype=torch.float64, device=device)
        if self._live:
            updates = torch._foreach_sub([self.weights[i] for i in self._live], self._began)
            pulls = updates
            if decay is not None:
                taken = torch._foreach_mul(self._began, [decay[i] for i in self._live])
                pulls = torch._foreach_add(updates, taken)
            rows = (self._gradients, _norms(self._began), _norms(updates), _norms(pulls))
            norms[:, torch.tensor(self._live, device=device)] = torch.stack(
                [torch.stack(row) for row in rows]
            )
        self._began, self._gradients = [], []
        return norms


def _norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list(torch._foreach_norm(list(tensors), 2, dtype=torch.float64)) if tensors else []
