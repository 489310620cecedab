"""Small graphs that export in seconds."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import onnx
import pytest
import torch

from contract.spec import Mirror, ModelSpec, NetDescription, Normalising, SegmentClass
from training.graph.assemble import ModelGraph
from training.graph.onnx_file import trace
from training.nets.build import build_net
from training.nets.config import NetConfig


@pytest.fixture(scope="session")
def small_graph() -> Callable[..., ModelGraph]:
    """Return a builder of an untrained graph around a U-Net of two levels."""

    def build(
        *,
        channels: int = 1,
        classes: int = 2,
        task: Any = "multiclass",
        normalising: Normalising | None = None,
        working_size: tuple[int, int] | None = None,
        members: int = 1,
        mirrors: Sequence[Mirror] = (),
        temperature: float = 1.0,
        thresholds_prob: Sequence[float] | None = None,
        gated: bool = False,
        **net: Any,
    ) -> ModelGraph:
        torch.manual_seed(0)
        config = NetConfig(**{"widths": (6, 8, 10), **net})
        nets = [build_net(config, channels=channels, classes=classes) for _ in range(members)]
        return ModelGraph(
            nets[0],
            normalising=normalising or Normalising(kind="image"),
            task=task,
            working_size=working_size,
            more_nets=nets[1:],
            mirrors=mirrors,
            temperature=temperature,
            thresholds_prob=thresholds_prob,
            gated=gated,
        ).eval()

    return build


@pytest.fixture(scope="session")
def traced(
    small_graph: Callable[..., ModelGraph],
) -> Callable[..., tuple[ModelGraph, onnx.ModelProto]]:
    """Return a builder of a small graph and its trace, made once per set of options (5 s each).

    Both are copies, so that a test may change them.
    """
    made: dict[str, tuple[ModelGraph, onnx.ModelProto]] = {}

    def build(**options: Any) -> tuple[ModelGraph, onnx.ModelProto]:
        key = repr(sorted(options.items()))
        if key not in made:
            graph = small_graph(**options)
            made[key] = (graph, trace(graph, channels=options.get("channels", 1)))
        return copy.deepcopy(made[key])

    return build


@pytest.fixture(scope="session")
def spec_for() -> Callable[..., ModelSpec]:
    """Return a builder of the least spec that fits a graph."""

    def build(
        graph: ModelGraph,
        *,
        channels: int = 1,
        classes: int = 2,
        thresholds_prob: tuple[float, ...] | None = None,
    ) -> ModelSpec:
        return ModelSpec(
            name="small",
            task=graph.activate.task,
            classes=tuple(SegmentClass(name=f"c{i}", colour=(i, 0, 0)) for i in range(classes)),
            channels=channels,
            normalising=Normalising(kind="image"),
            divisor=graph.pad.divisor,
            whole_image_max_pixels=1 << 20,
            net=NetDescription(
                architecture="unet",
                parameters=1,
                # A net of others has no dial to tell of.
                long_skips=graph.net.long_skips if graph.gain_levels else (),
            ),
            skip_gain_strides=graph.net.skip_strides if graph.gain_levels else (),
            thresholds_prob=thresholds_prob,
            code_version="0",
        )

    return build
