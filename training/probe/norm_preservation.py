"""Whether a unit keeps the gradient's norm on its way back (Zaeemzadeh 2020, fig. 2 and 3).

For unit l with input x_l and output x_(l+1): ‖∂L/∂x_l‖ / ‖∂L/∂x_(l+1)‖. A ratio of 1 keeps the
norm; below 1 the gradient shrinks, above 1 it grows, and the ratios of a net multiply. Residual
units come near to 1 the more of them there are. Where a unit changes width, the two norms are of
tensors of different size, which ``keeps_width`` tells.

∂L/∂x_(l+1) is the whole gradient, what comes through a long skip included; ∂L/∂x_l is what the
unit hands on. The first unit takes the image, whose gradient nobody needs, and has no row.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from training.graph.assemble import ModelGraph
from training.nets.units import Unit, net_units
from training.probe.backward import Batch, default_loss, loss_of, patch_batch, undisturbed
from training.probe.growing_table import spread_steps
from training.probe.rows import write_rows
from training.report.figure import GREY, canvas, save_figure, shades, style

if TYPE_CHECKING:
    from training.probe.probed import Probed

NAME = "norm_preservation"


@dataclass(frozen=True)
class UnitNorm:
    """One unit at one step.

    Attributes:
        step: optimiser steps taken before; 0 is the initialisation.
        order: place of the unit in the forward pass, from 0.
        place: where it stands, in words.
        kind: residual, plain or dense.
        keeps_width: whether input and output have the same shape.
        gradient_in: norm of the loss's gradient with respect to the unit's input.
        gradient_out: with respect to its output.
        ratio: the first by the second; NaN where no gradient comes in.
    """

    step: int
    order: int
    place: str
    kind: str
    keeps_width: bool
    gradient_in: float
    gradient_out: float
    ratio: float


class UnitNorms:
    """Hooks on a net's units: the next forward and backward pass leaves its norms here."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units
        self._norms: dict[tuple[int, str], Tensor] = {}
        self._shapes: dict[tuple[int, str], torch.Size] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the passes inside the block, which are not changed by it."""
        hooks = self.attach()
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def attach(self) -> list[Any]:
        """Begin to watch; return the hooks, each of which has ``remove``."""
        self._norms, self._shapes = {}, {}
        hooks: list[Any] = []
        for order, unit in enumerate(self._units):
            hooks.append(unit.first.register_forward_pre_hook(self._of_input(order)))
            hooks.append(unit.last.register_forward_hook(self._of_output(order)))
        return hooks

    def rows(self, step: int) -> list[UnitNorm]:
        """Return what the last pass left, one row for each unit that a gradient left."""
        found = []
        for order, unit in enumerate(self._units):
            ends = [(order, "in"), (order, "out")]
            if any(end not in self._norms for end in ends):
                continue
            before, after = (float(self._norms[end]) for end in ends)
            found.append(
                UnitNorm(
                    step=step,
                    order=order,
                    place=unit.place,
                    kind=unit.kind,
                    keeps_width=self._shapes[ends[0]] == self._shapes[ends[1]],
                    gradient_in=before,
                    gradient_out=after,
                    ratio=before / after if after else math.nan,
                )
            )
        return found

    def _of_input(self, order: int) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._watch(inputs[0], (order, "in"))

        return hook

    def _of_output(self, order: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._watch(output, (order, "out"))

        return hook

    def _watch(self, tensor: Tensor, end: tuple[int, str]) -> None:
        if not tensor.requires_grad:
            return
        self._shapes[end] = tensor.shape

        def keep(gradient: Tensor) -> None:
            norm = torch.linalg.vector_norm(gradient.detach(), dtype=torch.float64)
            self._norms[end] = norm

        tensor.register_hook(keep)  # type: ignore[no-untyped-call]


def norm_preservation(
    graph: ModelGraph, loss: nn.Module, batch: Batch, *, step: int = 0
) -> list[UnitNorm]:
    """Return the ratio of each unit, from one pass in training mode over ``batch``.

    Weights, gradients, running statistics and random generators stay as they are.

    Raises:
        RequestInvalid: the net is not our own U-Net.
    """
    norms = UnitNorms(net_units(graph.net))
    weights = [weight for weight in graph.parameters() if weight.requires_grad]
    with undisturbed(graph), torch.enable_grad(), norms.watching():
        torch.autograd.grad(loss_of(graph, loss, batch), weights, allow_unused=True)
    return norms.rows(step)


def geometric_mean(rows: Sequence[UnitNorm]) -> float:
    """Return the geometric mean of the ratios, since they multiply; NaN of none."""
    ratios = [row.ratio for row in rows]
    if not ratios or any(math.isnan(ratio) for ratio in ratios):
        return math.nan
    if min(ratios) == 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


def draw_norm_preservation(rows: Sequence[UnitNorm], folder: Path, name: str = NAME) -> None:
    """Draw the ratio by unit; one line for each of a few steps, 1 as a line of its own."""
    steps = spread_steps(rows)
    with style():
        figure, (axes,) = canvas(1, height_in=3.0)
        axes.axhline(1.0, color=GREY, linewidth=1)
        for step, shade in zip(steps, shades(len(steps)), strict=True):
            of_step = [row for row in rows if row.step == step]
            text = "initialisation" if step == 0 else f"step {step}"
            orders, ratios = [row.order for row in of_step], [row.ratio for row in of_step]
            axes.plot(orders, ratios, "-", color=shade, linewidth=1, label=text)
            for keeps, marker in ((True, "o"), (False, "s")):
                chosen = [row for row in of_step if row.keeps_width == keeps]
                axes.plot(
                    [row.order for row in chosen],
                    [row.ratio for row in chosen],
                    marker,
                    color=shade,
                    markersize=3.5,
                    fillstyle="full" if keeps else "none",
                )
        if any(row.ratio > 0 for row in rows):
            axes.set_yscale("log")
        axes.set(
            title="Gradient at a unit's input by that at its output",
            xlabel="unit, in forward order (hollow square: width changes)",
            ylabel="ratio of norms",
        )
        axes.legend(ncols=1 + len(steps) // 5)
        save_figure(figure, folder, name)


def probe_norm_preservation(probed: "Probed", folder: Path) -> dict[str, float]:
    """Measure a trained net by one backward pass; write CSV and figure, return the headline."""
    loss = default_loss(probed.description).to(probed.device)
    rows = norm_preservation(probed.graph, loss, patch_batch(probed))
    write_rows(folder / f"{NAME}.csv", rows)
    draw_norm_preservation(rows, folder)
    ratios = [row.ratio for row in rows]
    return {
        "units": float(len(rows)),
        "ratio_geometric_mean": geometric_mean(rows),
        "ratio_lowest": min(ratios, default=math.nan),
        "ratio_highest": max(ratios, default=math.nan),
    }
