"""One backward pass that leaves no trace: what the probes of gradients stand on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from contract.spec import Normalising, SegmentClass
from contract.statistics import image_statistics
from training.data.folder import IGNORE
from training.data.phantoms import draw_phantom
from training.fit.checkpoint import Description, net_fields
from training.fit.config import LossConfig
from training.fit.losses import SegmentationLoss, build_loss
from training.graph.assemble import ModelGraph
from training.nets.config import NetConfig

if TYPE_CHECKING:
    from training.probe.probed import Probed

PATCHES = 8
LARGEST_PATCH_HW = (256, 256)

Batch = dict[str, Any]
"""As training has it: ``image`` float32 [B, C, H, W], ``mask`` uint8 [B, H, W] (multilabel
[B, K, H, W]), and ``statistics`` [B, C, 2] where patches were cut from larger images."""


@contextmanager
def undisturbed(graph: ModelGraph, *, training: bool = True) -> Iterator[None]:
    """Put ``graph`` into a mode; afterwards mode, buffers and random generators are as before.

    A pass in training mode changes the running statistics of batch norms, and dropout draws.
    """
    modes = {module: module.training for module in graph.modules()}
    buffers = {name: buffer.clone() for name, buffer in graph.named_buffers()}
    device = next(graph.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            graph.train(training)
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            with torch.no_grad():
                for name, buffer in graph.named_buffers():
                    buffer.copy_(buffers[name])


def loss_of(graph: ModelGraph, loss: nn.Module, batch: Batch) -> Tensor:
    """Return the loss of ``batch``, which is brought to where the weights lie."""
    device = next(graph.parameters()).device
    image, mask = batch["image"].to(device), batch["mask"].to(device)
    statistics = batch.get("statistics")
    if statistics is not None:
        statistics = statistics.to(device)
    found: Tensor = loss(graph.logits(image, statistics), mask)
    return found


def default_loss(description: Description) -> SegmentationLoss:
    """Return the loss that ``fit`` takes where nothing else is asked for."""
    return build_loss(
        LossConfig(), task=description.task, classes=len(description.classes), ignore=IGNORE
    )


def fresh(config: NetConfig, *, channels: int = 1, classes: int = 2, seed: int = 0) -> ModelGraph:
    """Return a net at its initialisation, as ``fit --seed`` draws it, ready for images."""
    names = ("background", *(f"class {index}" for index in range(1, classes)))
    description = Description(
        net=net_fields(config),
        channels=channels,
        classes=tuple(SegmentClass(name=name, colour=(0, 0, 0)) for name in names),
        task="multiclass",
        normalising=Normalising(kind="image"),
        working_size=None,
        patch=None,
        training_data=None,
        seed=seed,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return description.build_graph()


def patch_batch(probed: "Probed") -> Batch:
    """Return a batch of patches of the images that are looked at, as training would cut them.

    Of nets that see the whole image, one whole image.
    """
    rng = np.random.default_rng(probed.seed)
    whole = probed.description.working_size is not None
    count = 1 if whole else min(PATCHES, len(probed.stems))
    chosen = rng.choice(len(probed.stems), count, replace=False)
    few = replace(probed, stems=tuple(probed.stems[place] for place in sorted(chosen)))
    images = list(few.images("looking at gradients of"))
    sizes = [image.image_chw.shape[1:] for image in images]
    if not whole:
        sizes.append(probed.description.patch or LARGEST_PATCH_HW)
    height, width = (min(sides) for sides in zip(*sizes, strict=True))
    patches, masks = [], []
    for image in images:
        top, left = (
            int(rng.integers(full - side + 1))
            for full, side in zip(image.image_chw.shape[1:], (height, width), strict=True)
        )
        cut = (..., slice(top, top + height), slice(left, left + width))
        patches.append(image.image_chw[cut])
        masks.append(image.truth[cut])
    statistics = [image_statistics(image.image_chw).astype(np.float32) for image in images]
    return {
        "image": torch.from_numpy(np.stack(patches)),
        "mask": torch.from_numpy(np.stack(masks)),
        "statistics": torch.from_numpy(np.stack(statistics)),
    }


def phantom_batch(*, count: int = 4, side_px: int = 64, seed: int = 0) -> Batch:
    """Return ``count`` made-up micrographs of cells, square, with two classes."""
    rng = np.random.default_rng(seed)
    drawn = [draw_phantom(rng, (side_px, side_px)) for _ in range(count)]
    return {
        "image": torch.from_numpy(np.stack([255 * one.image_hw for one in drawn])[:, None]),
        "mask": torch.from_numpy(np.stack([one.labels_hw for one in drawn])),
    }
