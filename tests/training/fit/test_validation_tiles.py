"""A validation image that memory does not hold is scored in tiles, as the exported file does."""

from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from contract.spec import Normalising
from contract.statistics import image_statistics
from training.fit.config import LossConfig, OptimiserConfig
from training.fit.fit import quieten
from training.fit.losses import build_loss
from training.fit.module import SegmentationModule
from training.fit.validation_tiles import memory_of, tiles_where_too_large, whole_image_pixels
from training.graph.assemble import ModelGraph
from training.graph.limits import TILE_SIDE
from training.nets.build import build_net
from training.nets.config import NetConfig

SIZE = (600, 1200)
LITTLE, PLENTY = 1 << 20, 1 << 40


def graph_of(*, classes: int = 2, task: Any = "multiclass", **options: Any) -> ModelGraph:
    torch.manual_seed(0)
    net = build_net(NetConfig(widths=(4, 6), **options), channels=1, classes=classes)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                # Without, features that are all 0 tie at probability 0.5, which rounding decides.
                parameter.add_(0.03 * torch.randn_like(parameter))
    return ModelGraph(net, normalising=Normalising(kind="image"), task=task).eval()


def batch_of(truth: np.ndarray) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    flat = truth if truth.ndim == 2 else truth[0]
    image = (rng.normal(100, 20, (1, *SIZE)) + 40 * flat).astype(np.float32)
    image[:, :, 700:] += 60  # a tile's own statistics are not the image's
    return {
        "image": torch.from_numpy(image)[None],
        "statistics": torch.from_numpy(image_statistics(image))[None],
        "mask": torch.from_numpy(truth)[None],
        "stem": ["large"],
    }


class Largest:
    """Notes the largest input that the net gets."""

    def __init__(self, graph: ModelGraph) -> None:
        self.pixels = 0
        graph.net.register_forward_pre_hook(self.note)

    def note(self, _: Any, inputs: Any) -> None:
        self.pixels = max(self.pixels, inputs[0].shape[-1] * inputs[0].shape[-2])


def validated(
    graph: ModelGraph, batch: dict[str, Any], memory_bytes: int
) -> tuple[dict[str, Any], SegmentationModule, int]:
    classes, task = 2, graph.activate.task
    module = SegmentationModule(
        graph,
        loss=build_loss(LossConfig(), task=task, classes=classes, ignore=255, class_weights=None),
        optimiser=OptimiserConfig(),
        class_names=("a", "b"),
        ignore=255,
        memory_bytes=memory_bytes,
    )
    largest = Largest(graph)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    quieten()
    loader: Any = DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
    (scores,) = trainer.validate(module, dataloaders=loader, verbose=False)
    return dict(scores), module, largest.pixels


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_tiles_give_the_whole_images_scores_in_less_memory(task: Any) -> None:
    rng = np.random.default_rng(0)
    shape = SIZE if task == "multiclass" else (2, *SIZE)
    truth = (rng.random(shape) < 0.4).astype(np.uint8)
    truth[..., :40, :40] = 255
    graph, batch = graph_of(task=task), batch_of(truth)
    whole, module, pixels = validated(graph, batch, PLENTY)
    assert pixels == SIZE[0] * SIZE[1]
    in_tiles, tiled_module, tile_pixels = validated(graph, batch, LITTLE)
    assert tile_pixels == TILE_SIDE**2
    for one, other in zip(module.cases["large"], tiled_module.cases["large"], strict=True):
        assert one.truth_px == other.truth_px
        assert one.prediction_px == pytest.approx(other.prediction_px, rel=2e-3)
        assert one.dice == pytest.approx(other.dice, abs=1e-3)
    assert in_tiles["val/dice"] == pytest.approx(whole["val/dice"], abs=1e-3)
    assert in_tiles["val/loss"] == pytest.approx(whole["val/loss"], abs=0.05)


def test_tiles_with_their_own_statistics_would_not() -> None:
    """The test above can tell: a tile normalised by itself is answered in another way."""
    graph, batch = graph_of(), batch_of(np.zeros(SIZE, np.uint8))
    image = batch["image"][..., :TILE_SIDE, :TILE_SIDE]
    with torch.no_grad():
        whole = graph.logits(batch["image"])[..., :TILE_SIDE, :TILE_SIDE]
        own = graph.logits(image)
        told = graph.logits(image, batch["statistics"])
    inner = (..., slice(0, 400), slice(0, 400))
    torch.testing.assert_close(told[inner], whole[inner], rtol=1e-4, atol=1e-4)
    assert (own[inner] - whole[inner]).abs().max() > 0.05


def test_the_bound_follows_memory_net_and_classes() -> None:
    graph = graph_of()
    small = whole_image_pixels(graph, channels=1, classes=2, memory_bytes=1 << 30)
    assert whole_image_pixels(graph, channels=1, classes=2, memory_bytes=1 << 31) == pytest.approx(
        2 * small, abs=1
    )
    assert whole_image_pixels(graph, channels=1, classes=20, memory_bytes=1 << 30) < small
    assert memory_of(torch.device("cpu")) > 1 << 28
    image = torch.zeros(1, 1, 2048, 2048)
    assert tiles_where_too_large(graph, image, classes=2, memory_bytes=1 << 40) is None
    assert tiles_where_too_large(graph, image, classes=2, memory_bytes=LITTLE) is not None
    # What one tile holds is no gain; a norm over the image cannot be tiled.
    tile = torch.zeros(1, 1, TILE_SIDE, TILE_SIDE)
    assert tiles_where_too_large(graph, tile, classes=2, memory_bytes=LITTLE) is None
    instance = graph_of(norm="instance")
    assert tiles_where_too_large(instance, image, classes=2, memory_bytes=LITTLE) is None
