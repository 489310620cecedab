"""Where in a residual net the gradient comes from: short ways through it, or long ones.

A net of n residual units is a sum over 2^n ways (Veit 2016): in each unit a way takes the residual
branch or the shortcut. Its length is the number of residual branches. As in Veit's section 4.3 and
figure 6: run forward as usual; on the way back let the gradient pass through the residual branch
of k units drawn at random and through the shortcut of the others; its norm at the image, averaged
over draws, times the number of ways of length k, by the sum over all k, is the share of length k.

Here the net is a U-Net, so a way also crosses from encoder to decoder at one place: through the
long skip of some level, or through the bottleneck. A way that crosses at level l meets the units
of levels 0 to l only. Each crossing is drawn for itself, and shares are over all ways of all
crossings. The gradients of all ways add up to the whole gradient, exactly; their norms do not,
since ways may cancel, which is Veit's simplification as well.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from contract.errors import RequestInvalid
from training.graph.assemble import ModelGraph
from training.nets.net import SegmentationNet
from training.nets.unet import UNet
from training.nets.units import Unit, net_units
from training.probe.backward import Batch, default_loss, loss_of, patch_batch, undisturbed
from training.probe.rows import write_rows
from training.report.figure import COLOURS, canvas, save_figure, style

if TYPE_CHECKING:
    from training.probe.probed import Probed

NAME = "path_lengths"
DRAWS = 12
BOTTLENECK = "bottleneck"


@dataclass(frozen=True)
class PathLength:
    """All ways of one length through one crossing.

    Attributes:
        crossing: where they pass from encoder to decoder: ``skip level 0``, …, ``bottleneck``.
        units: residual units on each of them.
        length: how many of these are passed by the residual branch.
        paths: how many such ways there are, a binomial coefficient.
        draws: ways that were measured.
        gradient_norm: of the loss with respect to the image through one way, mean over draws.
        share: of the sum over all ways of these norms.
    """

    crossing: str
    units: int
    length: int
    paths: float
    draws: int
    gradient_norm: float
    share: float


class _Gate(torch.autograd.Function):
    """The identity; on the way back nothing passes where the gate is shut."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, is_open: dict[str, bool], name: str) -> Tensor:
        ctx.is_open, ctx.name = is_open, name
        ctx.set_materialize_grads(False)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None]:
        # None and not zeros: autograd then leaves out all that lies behind.
        return (gradients[0] if ctx.is_open[ctx.name] else None), None, None


@dataclass(frozen=True)
class Crossing:
    """One way from encoder to decoder, and the residual units on it by their places."""

    name: str
    level: int
    units: tuple[int, ...]


class Ways:
    """One forward pass of a residual U-Net, and the gradient of any set of ways through it.

    Raises:
        RequestInvalid: the net has no residual units.
    """

    def __init__(self, graph: ModelGraph, loss: nn.Module, batch: Batch) -> None:
        self.units = residual_units(graph.net)
        self.crossings = crossings(graph.net, self.units)
        self._is_open: dict[str, bool] = {}
        self._graph, self._loss, self._batch = graph, loss, batch

    @contextmanager
    def passed(self, *, training: bool) -> Iterator[None]:
        """Run forward; inside the block ``gradient`` may be asked as often as wanted."""
        hooks = self._attach()
        device = next(self._graph.parameters()).device
        self._image = self._batch["image"].detach().clone().to(device).requires_grad_()
        try:
            with undisturbed(self._graph, training=training), torch.enable_grad():
                batch = {**self._batch, "image": self._image}
                self._value = loss_of(self._graph, self._loss, batch)
                yield
        finally:
            for hook in hooks:
                hook.remove()
            del self._value, self._image

    def gradient(self, crossing: Crossing | None, through: frozenset[int] | None) -> Tensor:
        """Return the gradient with respect to the image.

        Args:
            crossing: the only one that is open; None: all.
            through: units passed by the residual branch, the others by the shortcut; None: both.
        """
        for level in self._levels:
            past = crossing is None or level < crossing.level
            across = crossing is None or level == crossing.level
            self._is_open[f"skip {level} decoder"] = past
            self._is_open[f"skip {level} encoder"] = across
        for place in range(len(self.units)):
            self._is_open[f"unit {place} body"] = through is None or place in through
            self._is_open[f"unit {place} shortcut"] = through is None or place not in through
        (found,) = torch.autograd.grad(
            self._value, [self._image], retain_graph=True, allow_unused=True
        )
        return torch.zeros_like(self._image) if found is None else found

    def _attach(self) -> list[Any]:
        hooks: list[Any] = []
        for place, unit in enumerate(self.units):
            for branch in ("body", "shortcut"):
                module = unit.first.get_submodule(branch)
                hooks.append(
                    module.register_forward_hook(self._of_branch(f"unit {place} {branch}"))
                )
        net = self._graph.net
        if not isinstance(net, UNet):
            raise TypeError(f"expected a UNet, got {type(net).__name__}")
        self._levels = range(len(net.skips))
        for level, skip in enumerate(net.skips):
            hooks.append(skip.register_forward_pre_hook(self._of_skip(level)))
        return hooks

    def _of_branch(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            gated: Tensor = _Gate.apply(output, self._is_open, name)
            return gated

        return hook

    def _of_skip(self, level: int) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            decoder, encoder, *more = inputs
            return (
                _Gate.apply(decoder, self._is_open, f"skip {level} decoder"),
                _Gate.apply(encoder, self._is_open, f"skip {level} encoder"),
                *more,
            )

        return hook


def residual_units(net: SegmentationNet) -> list[Unit]:
    """Return the residual units in forward order.

    Raises:
        RequestInvalid: there are none, so there is only one way through each crossing.
    """
    units = net_units(net)
    if any(unit.kind != "residual" for unit in units):
        raise RequestInvalid(
            f"the net's blocks are {units[0].kind}: without residual units there are no ways of "
            "different length; give a net that was trained with --net.block residual"
        )
    return units


def crossings(net: SegmentationNet, units: Sequence[Unit]) -> list[Crossing]:
    """Return where a way can pass to the decoder: at each long skip, and at the bottleneck."""
    deepest = len(net.long_skips)
    levels = [level for level, kind in enumerate(net.long_skips) if kind != "none"]
    found = []
    for level in (*levels, deepest):
        parts = {f"{side} level {i}" for i in range(level + 1) for side in ("encoder", "decoder")}
        parts |= {BOTTLENECK} if level == deepest else set()
        places = tuple(i for i, unit in enumerate(units) if unit.part in parts)
        found.append(
            Crossing(BOTTLENECK if level == deepest else f"skip level {level}", level, places)
        )
    return found


def path_lengths(
    graph: ModelGraph,
    loss: nn.Module,
    batch: Batch,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    training: bool = True,
) -> list[PathLength]:
    """Return the share of the gradient by crossing and length, which add up to 1.

    Args:
        graph: a U-Net of residual blocks; nothing of it is changed.
        loss: takes logits and mask.
        batch: one forward pass over it is looked at.
        seed: of the ways that are drawn.
        draws: ways of each length; where there is only one, that one.
        training: True at initialisation; False for a trained net, which then takes its running
            statistics.

    Raises:
        RequestInvalid: the net has no residual units.
    """
    ways = Ways(graph, loss, batch)
    rng = np.random.default_rng(seed)
    rows: list[PathLength] = []
    with ways.passed(training=training):
        for crossing in ways.crossings:
            count = len(crossing.units)
            for length in range(count + 1):
                paths = math.comb(count, length)
                norms = []
                for _ in range(min(draws, paths)):
                    through = rng.choice(crossing.units, length, replace=False)
                    gradient = ways.gradient(crossing, frozenset(through.tolist()))
                    norms.append(float(torch.linalg.vector_norm(gradient, dtype=torch.float64)))
                mean = math.fsum(norms) / len(norms)
                rows.append(
                    PathLength(crossing.name, count, length, float(paths), len(norms), mean, 0.0)
                )
    return with_shares(rows)


def with_shares(rows: Sequence[PathLength]) -> list[PathLength]:
    """Return the rows with each one's part of the sum of paths × norm; NaN of a sum of 0."""
    parts = [row.paths * row.gradient_norm for row in rows]
    total = math.fsum(parts)
    return [
        PathLength(
            row.crossing, row.units, row.length, row.paths, row.draws, row.gradient_norm,
            part / total if total else math.nan,
        )
        for row, part in zip(rows, parts, strict=True)
    ]  # fmt: skip


def effective_lengths(rows: Sequence[PathLength]) -> dict[str, float]:
    """Return the headline: between which lengths the middle 90 % of the gradient lies."""
    longest = max(row.length for row in rows)
    share = [
        math.fsum(row.share for row in rows if row.length == length)
        for length in range(longest + 1)
    ]
    summed = list(accumulate(share))

    def at(part: float) -> float:
        # An underflow everywhere leaves no share to look for.
        return float(next((i for i, reached in enumerate(summed) if reached >= part), math.nan))

    return {
        "units": float(longest),
        "length_mean": math.fsum(i * part for i, part in enumerate(share)),
        "length_5_percent": at(0.05),
        "length_median": at(0.5),
        "length_95_percent": at(0.95),
        "share_through_bottleneck": math.fsum(
            row.share for row in rows if row.crossing == BOTTLENECK
        ),
    }


def draw_path_lengths(rows: Sequence[PathLength], folder: Path, name: str = NAME) -> None:
    """Draw number of ways, gradient of one way, and share by length, as Veit's figure 6."""
    names = list(dict.fromkeys(row.crossing for row in rows))
    lengths = sorted({row.length for row in rows})
    with style():
        figure, (number, gradient, share) = canvas(3, height_in=2.9)
        below = np.zeros(len(lengths))
        for crossing, colour in zip(names, COLOURS, strict=False):
            along = [row for row in rows if row.crossing == crossing]
            places = [row.length for row in along]
            number.plot(places, [row.paths for row in along], "o-", color=colour, ms=2.5, lw=1)
            gradient.plot(
                places, [row.gradient_norm or math.nan for row in along], "o-", color=colour,
                ms=2.5, lw=1,
            )  # fmt: skip
            heights = np.zeros(len(lengths))
            for row in along:
                heights[lengths.index(row.length)] = row.share
            share.bar(lengths, heights, bottom=below, color=colour, width=0.8, label=crossing)
            below += heights
        number.set(title="Ways of this length", xlabel="residual units passed", yscale="log")
        gradient.set(title="Gradient through one way", xlabel="residual units passed")
        if any(row.gradient_norm > 0 for row in rows):
            gradient.set_yscale("log")
        share.set(title="Share of the gradient", xlabel="residual units passed")
        share.legend(title="crossing at")
        save_figure(figure, folder, name)


def probe_path_lengths(probed: "Probed", folder: Path) -> dict[str, float]:
    """Measure a trained residual net; write CSV and figure, return the headline."""
    loss = default_loss(probed.description).to(probed.device)
    rows = path_lengths(probed.graph, loss, patch_batch(probed), seed=probed.seed, training=False)
    write_rows(folder / f"{NAME}.csv", rows)
    draw_path_lengths(rows, folder)
    return effective_lengths(rows)
