"""How much of the gradient reaches each layer, by depth.

For each layer that is trained: the norm of its weights' gradient, that of the weights, their ratio
and, while a net is trained, how far the optimiser's real step moves the weights in relation to
their size. Glorot & Bengio 2010 (fig. 6 and 7) show the gradient's size by layer, He 2015 takes it
for the test of vanishing gradients, Philipp 2017 for exploding ones.

Norms are taken in float64: a gradient of 1e-25 is a number in float32, its square is not. A
gradient that underflows on its way back is 0 and said as 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor, nn

from training.graph.assemble import ModelGraph
from training.nets.net import SegmentationNet
from training.nets.places import LayerPlace, layer_places
from training.probe.backward import Batch, default_loss, loss_of, patch_batch, undisturbed
from training.probe.growing_table import spread_steps
from training.probe.rows import write_rows
from training.report.figure import canvas, save_figure, shades, style

if TYPE_CHECKING:
    from training.probe.probed import Probed

NAME = "gradient_flow"


@dataclass(frozen=True)
class LayerGradient:
    """One layer at one step.

    Attributes:
        step: optimiser steps taken before; 0 is the initialisation.
        order: place in the forward pass, from 0.
        depth: layers on the longest way from the image up to this one, itself included.
        layer: the module's name in the net.
        place: the same in words.
        main: whether it stands on the longest way through the net.
        spatial: whether its kernel is larger than one pixel.
        gradient_norm: Euclidean norm of the gradient of the layer's weights.
        weight_norm: of the weights.
        gradient_per_weight: their ratio.
        update_per_weight: norm of what the optimiser's step changed by ``weight_norm``; None
            where no step was taken.
    """

    step: int
    order: int
    depth: int
    layer: str
    place: str
    main: bool
    spatial: bool
    gradient_norm: float
    weight_norm: float
    gradient_per_weight: float
    update_per_weight: float | None


@dataclass(frozen=True)
class Profile:
    """The gradient along the longest way through a net, in the layers larger than a pixel.

    Attributes:
        convs: how many of them there are.
        first, centre, last: norms of the gradient in the first, the middle (``convs`` // 2, from
            0: in a U-Net the bottleneck) and the last.
    """

    convs: int
    first: float
    centre: float
    last: float

    @property
    def first_per_last(self) -> float:
        """Far below 1: vanishing; far above: exploding. NaN where no gradient reaches the last."""
        return _ratio(self.first, self.last)

    @property
    def centre_per_last(self) -> float:
        """The same for the middle of the way."""
        return _ratio(self.centre, self.last)


def gradient_flow(
    graph: ModelGraph, loss: nn.Module, batch: Batch, *, step: int = 0
) -> list[LayerGradient]:
    """Return the gradient in each trained layer, from one pass in training mode over ``batch``.

    Weights, gradients, running statistics and random generators stay as they are.

    Raises:
        ValueError: no layer is trained.
    """
    layers = trained_layers(graph.net, channels=batch["image"].shape[1])
    weights = [weight for _, weight in layers]
    if not weights:
        raise ValueError("every layer of the net is frozen, so that no gradient flows")
    with undisturbed(graph), torch.enable_grad():
        gradients = torch.autograd.grad(loss_of(graph, loss, batch), weights)
    norms = zip(_norms(gradients), _norms(weights), strict=True)
    return [
        layer_gradient(place, order, step=step, gradient=gradient, weight=weight)
        for (order, (place, _)), (gradient, weight) in zip(enumerate(layers), norms, strict=True)
    ]


def trained_layers(net: SegmentationNet, *, channels: int) -> list[tuple[LayerPlace, nn.Parameter]]:
    """Return layers whose weights are not frozen, in forward order, with the weights."""
    modules = dict(net.named_modules())
    layers = [
        (place, modules[place.name].get_parameter("weight"))
        for place in layer_places(net, channels=channels)
    ]
    return [(place, weight) for place, weight in layers if weight.requires_grad]


def layer_gradient(
    place: LayerPlace,
    order: int,
    *,
    step: int,
    gradient: float,
    weight: float,
    update: float | None = None,
) -> LayerGradient:
    """Return the row of one layer from its three norms."""
    return LayerGradient(
        step=step,
        order=order,
        depth=place.depth,
        layer=place.name,
        place=place.place,
        main=place.main,
        spatial=place.spatial,
        gradient_norm=gradient,
        weight_norm=weight,
        gradient_per_weight=_ratio(gradient, weight),
        update_per_weight=None if update is None else _ratio(update, weight),
    )


def profile(layers: Sequence[LayerGradient]) -> Profile:
    """Return the profile of one step's layers.

    Raises:
        ValueError: the net has no layer larger than a pixel.
    """
    along = [layer.gradient_norm for layer in layers if layer.main and layer.spatial]
    if not along:
        raise ValueError("no layer with a kernel larger than a pixel stands on the way")
    return Profile(len(along), first=along[0], centre=along[len(along) // 2], last=along[-1])


def draw_gradient_flow(layers: Sequence[LayerGradient], folder: Path, name: str = NAME) -> None:
    """Draw gradients, and updates where there are any, by depth; a line for each of a few steps."""
    steps = spread_steps(layers)
    panels = [("gradient_norm", "Norm of the gradient")]
    if any(layer.update_per_weight is not None for layer in layers):
        panels.append(("update_per_weight", "Update / weight of one step"))
    with style():
        figure, axes = canvas(len(panels), height_in=3.0)
        for panel, (field, title) in zip(axes, panels, strict=True):
            for step, shade in zip(steps, shades(len(steps)), strict=True):
                along = [one for one in layers if one.step == step and one.main]
                _line(panel, along, field, "initialisation" if step == 0 else f"step {step}", shade)
            if any((np.asarray(line.get_ydata(), float) > 0).any() for line in panel.lines):
                panel.set_yscale("log")
            panel.set(xlabel="depth in layers; a cross at the edge is exactly 0", title=title)
        axes[0].legend(ncols=1 + len(steps) // 8)
        save_figure(figure, folder, name)


def probe_gradient_flow(probed: "Probed", folder: Path) -> dict[str, float]:
    """Measure a trained net by one backward pass; write CSV and figure, return the headline."""
    loss = default_loss(probed.description).to(probed.device)
    layers = gradient_flow(probed.graph, loss, patch_batch(probed))
    write_rows(folder / f"{NAME}.csv", layers)
    draw_gradient_flow(layers, folder)
    seen = profile(layers)
    return {
        "convs": float(seen.convs),
        "first_per_last": seen.first_per_last,
        "centre_per_last": seen.centre_per_last,
    }


def _line(
    panel: Axes, along: Sequence[LayerGradient], field: str, label: str, shade: NDArray[np.float64]
) -> None:
    depths = np.array([one.depth for one in along])
    values = np.array([getattr(one, field) for one in along], dtype=np.float64)
    zero = values == 0  # which a logarithmic axis has no place for
    seen = np.where(zero, np.nan, values)
    panel.plot(depths, seen, "o-", color=shade, markersize=2.5, linewidth=1, label=label)
    if zero.any():
        edge = np.full(int(zero.sum()), 0.02)
        way = panel.get_xaxis_transform()
        panel.plot(depths[zero], edge, "x", color=shade, markersize=4, transform=way)


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    norms = [torch.linalg.vector_norm(one.detach(), dtype=torch.float64) for one in tensors]
    found: list[float] = torch.stack(norms).tolist()
    return found


def _ratio(above: float, below: float) -> float:
    return above / below if below else math.nan
