"""fp16 variant: the net in half precision, everything around it in float32.

The net is halved before the export. Converters of finished graphs also halve what stands around
the net: on 16-bit images one flipped 32 % of the labels, because raw intensities and their sums
do not fit into fp16, and another made an invalid file; this way 0.005 % flipped.
"""

import copy
from typing import cast

import onnx
import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.graph.assemble import ModelGraph
from training.graph.norms import SpelledOutNorm, spell_out_norms
from training.graph.onnx_file import trace
from training.nets.net import SegmentationNet


class HalfNet(nn.Module):
    """A net in half precision between float32 edges."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.half()

    def forward(
        self, image: Float[Tensor, "b c h w"], *skip_gain: Float[Tensor, "g l"]
    ) -> Float[Tensor, "b k h w"]:
        """Return float32 logits."""
        logits: Tensor = self.net(image.half(), *(gain.half() for gain in skip_gain)).float()
        return logits


class FloatNorm(nn.Module):
    """A norm over the image that stays in float32: its sums of squares leave fp16's range."""

    def __init__(self, norm: SpelledOutNorm) -> None:
        super().__init__()
        self.norm = norm.float()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return half precision."""
        return cast(Tensor, self.norm(x.float())).half()


def trace_fp16(graph: ModelGraph, *, channels: int) -> onnx.ModelProto:
    """Return ``graph`` as ONNX with its nets in half precision; ``graph`` stays as it is."""
    return trace(half_nets(graph), channels=channels)


def half_nets(graph: ModelGraph) -> ModelGraph:
    """Return a copy of ``graph`` in which each net is a ``HalfNet``."""
    halved = spell_out_norms(copy.deepcopy(graph))
    for parent in list(halved.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SegmentationNet):
                setattr(parent, name, HalfNet(child))
    for parent in list(halved.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SpelledOutNorm):
                setattr(parent, name, FloatNorm(child))
    return cast(ModelGraph, halved.to(torch.device("cpu")).eval())
