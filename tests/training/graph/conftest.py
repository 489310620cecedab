"""Small graphs that export in seconds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from contract.spec import ModelSpec, NetDescription, Normalising, SegmentClass
from training.graph.assemble import ModelGraph
from training.nets.build import build_net
from training.nets.config import NetConfig


@pytest.fixture
def small_graph() -> Callable[..., ModelGraph]:
    """Return a builder of an untrained graph around a U-Net of two levels."""

    def build(
        *,
        channels: int = 1,
        classes: int = 2,
        task: Any = "multiclass",
        normalising: Normalising | None = None,
        working_size: tuple[int, int] | None = None,
        **net: Any,
    ) -> ModelGraph:
        torch.manual_seed(0)
        config = NetConfig(**{"widths": (6, 8, 10), **net})
        return ModelGraph(
            build_net(config, channels=channels, classes=classes),
            normalising=normalising or Normalising(kind="image"),
            task=task,
            working_size=working_size,
        ).eval()

    return build


@pytest.fixture
def spec_for() -> Callable[..., ModelSpec]:
    """Return a builder of the least spec that fits a graph."""

    def build(graph: ModelGraph, *, channels: int = 1, classes: int = 2) -> ModelSpec:
        return ModelSpec(
            name="small",
            task=graph.activate.task,
            classes=tuple(SegmentClass(name=f"c{i}", colour=(i, 0, 0)) for i in range(classes)),
            channels=channels,
            normalising=Normalising(kind="image"),
            divisor=graph.pad.divisor,
            whole_image_max_pixels=1 << 20,
            net=NetDescription(architecture="unet", parameters=1),
            code_version="0",
        )

    return build
