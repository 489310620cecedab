"""Validate an image in tiles where it is too large for this machine's memory.

An exported file takes such an image in the same tiles, blended in the same way, so that the score
of a checkpoint is that of its file.
"""

from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor, nn

from contract.decision import labels_of
from contract.spec import Tiles
from contract.tiling import blend_bands, plan_tiles
from training.graph.assemble import ModelGraph
from training.graph.limits import activation_bytes_per_pixel, tiles_for
from training.plan.machine import this_machine

# Share of the memory that one validation image may take: decoded images, the optimiser and the
# loader's processes need theirs meanwhile.
VALIDATION_MEMORY_SHARE = 0.2
# Beside the net: logits, their softmax and its logarithm, one-hot targets and two products, all
# float32, and the target as int64.
LOSS_PLANES = 6
TARGET_BYTES = 16


def whole_image_pixels(graph: ModelGraph, *, channels: int, classes: int, memory_bytes: int) -> int:
    """Return the largest H x W, in pixels, that is validated as a whole with this much memory."""
    per_pixel = activation_bytes_per_pixel(graph, channels=channels)
    per_pixel += 4 * LOSS_PLANES * classes + TARGET_BYTES
    return int(VALIDATION_MEMORY_SHARE * memory_bytes / per_pixel)


def memory_of(device: torch.device) -> int:
    """Return the memory of a GPU, or of this machine or container, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return this_machine(use_gpu=False).memory_bytes


def tiles_where_too_large(
    graph: ModelGraph, image_bchw: Tensor, *, classes: int, memory_bytes: int
) -> Tiles | None:
    """Return how an image is cut; None where it is taken whole.

    A working size and a net that looks at the image as a whole cannot be tiled.
    """
    _, channels, height, width = image_bchw.shape
    tiles = tiles_for(graph, tileable=graph.net.tileable)
    if tiles is None or height * width <= tiles.patch[0] * tiles.patch[1]:
        return None
    most = whole_image_pixels(graph, channels=channels, classes=classes, memory_bytes=memory_bytes)
    return tiles if height * width > most else None


def validate_in_tiles(
    graph: ModelGraph,
    loss: nn.Module,
    image_chw: Float[Tensor, "c h w"],
    statistics: Float[Tensor, "1 c 2"],
    mask: Integer[Tensor, "*k h w"],
    tiles: Tiles,
    *,
    classes: int,
) -> tuple[NDArray[np.uint8], float]:
    """Return labels ``[H, W]`` (multilabel ``[K, H, W]``) of an image and its loss.

    Memory is bounded by a tile and a band of blended probabilities. The loss is the mean over
    tiles, each with its pixels' weight; the overlap term of a whole image is another number.

    Args:
        graph: in evaluation mode.
        loss: of logits and mask.
        image_chw: raw intensities.
        statistics: mean and std of the whole image.
        mask: of the whole image.
        tiles: patch and overlap.
        classes: how many there are.
    """
    height, width = image_chw.shape[1:]
    rows, columns = plan_tiles((height, width), tiles)
    corners = product(rows.starts, columns.starts)  # in the order in which tiles are run
    losses: list[float] = []
    weights: list[int] = []

    def run_tile(tile_chw: NDArray[np.float32]) -> NDArray[np.float32]:
        top, left = next(corners)
        tile_height, tile_width = tile_chw.shape[1:]
        tile = torch.from_numpy(np.ascontiguousarray(tile_chw))[None].to(image_chw.device)
        logits = graph.logits(tile, statistics)
        truth = mask[..., top : top + tile_height, left : left + tile_width]
        losses.append(float(loss(logits, truth[None])))
        weights.append(tile_height * tile_width)
        probabilities: NDArray[np.float32] = graph.activate(logits)[1][0].float().cpu().numpy()
        return probabilities

    task = graph.activate.task
    planes = (classes,) if task == "multilabel" else ()
    labels = np.empty((*planes, height, width), dtype=np.uint8)
    for band in blend_bands(image_chw.cpu().numpy(), run_tile, tiles, n_classes=classes):
        bottom = band.top + band.probabilities.shape[1]
        labels[..., band.top : bottom, :] = labels_of(band.probabilities, task)
    return labels, float(np.average(losses, weights=weights))
