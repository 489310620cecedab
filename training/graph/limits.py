"""How large an image the file takes whole, and the tiles beyond that.

Memory decides: a 2 M-parameter U-Net took 811 MB at 1040 x 1392.
"""

from typing import Any

import torch
from torch import Tensor, nn

from contract.spec import Tiles
from training.graph.assemble import ModelGraph

# Memory for the activations of one image. With decoding, answer and the process itself this
# keeps a request well below 1 GB.
ACTIVATION_BUDGET_BYTES = 512 * 1024**2
# A tile costs the same as a whole image of its size, so large ones waste least on overlaps; at a
# quarter each pixel is at least 64 pixels away from the border of one of its tiles.
TILE_SIDE = 512
TILE_OVERLAP = 0.25


def activation_bytes_per_pixel(graph: ModelGraph, *, channels: int) -> float:
    """Estimate the peak of live activations per image pixel, in bytes of float32.

    The peak is taken as the largest input plus output of one layer, plus every feature map that a
    long skip holds meanwhile (at most the encoder's output once per level).
    """
    side = max(graph.pad.least * 2, 64)
    working = graph.resample is None
    largest = 0
    held: dict[tuple[int, ...], int] = {}

    def watch(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal largest
        if not isinstance(output, Tensor) or output.ndim != 4:
            return
        into = sum(t.numel() for t in inputs if isinstance(t, Tensor))
        largest = max(largest, into + output.numel())
        held[tuple(output.shape[2:])] = max(held.get(tuple(output.shape[2:]), 0), output.numel())

    hooks = [
        module.register_forward_hook(watch)
        for module in graph.net.modules()
        if not list(module.children())
    ]
    try:
        with torch.inference_mode():
            graph.net(torch.zeros(1, channels, side, side, device=_device(graph)))
    finally:
        for hook in hooks:
            hook.remove()
    # Raw image, its float64 copy for the statistics and the normalised one; logits aside.
    stages = channels * (4 + 8 + 8 + 4)
    net = 4 * (largest + sum(held.values())) / side**2 if working else 0.0
    return stages + net


def _device(graph: ModelGraph) -> torch.device:
    return next(graph.net.parameters()).device


def whole_image_limit(graph: ModelGraph, *, channels: int) -> int:
    """Return the largest H x W, in pixels, that is run whole: a multiple of 64 x 1024."""
    step = 64 * 1024
    pixels = ACTIVATION_BUDGET_BYTES / activation_bytes_per_pixel(graph, channels=channels)
    return max(int(pixels // step), 4) * step


def tiles_for(graph: ModelGraph, *, tileable: bool) -> Tiles | None:
    """Return the tiles past the limit; None for a working size or where tiles would be wrong."""
    if not tileable or graph.resample is not None:
        return None
    side = -(-TILE_SIDE // graph.pad.divisor) * graph.pad.divisor
    return Tiles(patch=(side, side), overlap=TILE_OVERLAP)
