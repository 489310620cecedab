"""The units of a net: what stands between two neighbouring states of its features.

A residual unit is one; of plain convolutions every two are, so that both kinds hold as many layers
and can be held against each other; a dense block is one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from contract.errors import RequestInvalid
from training.nets.blocks import DenseBody, ResidualUnit
from training.nets.net import SegmentationNet
from training.nets.unet import UNet

CONVS_PER_UNIT = 2
MODULES_PER_CONV = 3  # convolution, norm (or nothing), activation


@dataclass(frozen=True, eq=False)
class Unit:
    """One unit, in forward order.

    Attributes:
        part: of the net, such as ``encoder level 2``; level 0 is the finest.
        place: the unit within it, such as ``encoder level 2, unit 1``.
        kind: what it is made of.
        first: the module that takes the unit's input.
        last: the module that gives its output.
    """

    part: str
    place: str
    kind: Literal["plain", "residual", "dense"]
    first: nn.Module
    last: nn.Module


def net_units(net: SegmentationNet) -> list[Unit]:
    """Return the units of our own U-Net, from the image on to the head.

    Raises:
        RequestInvalid: the net is not our own U-Net.
    """
    if not isinstance(net, UNet):
        raise RequestInvalid(
            f"{type(net).__name__} is not made of our blocks; give a net of architecture 'unet'"
        )
    blocks = [(f"encoder level {level}", block) for level, block in enumerate(net.encoder)]
    blocks.append(("bottleneck", net.bottleneck))
    decoder = [(f"decoder level {level}", block) for level, block in enumerate(net.decoder)]
    return [unit for part, block in (*blocks, *reversed(decoder)) for unit in _units(part, block)]


def _units(part: str, block: nn.Module) -> Iterator[Unit]:
    children = list(block.children())
    if isinstance(children[-1], nn.Dropout2d):
        block = children[0]
        children = list(block.children())
    if isinstance(block, DenseBody):
        yield Unit(part, f"{part}, unit 1", "dense", block, block)
    elif isinstance(children[0], ResidualUnit):
        for number, child in enumerate(children, start=1):
            yield Unit(part, f"{part}, unit {number}", "residual", child, child)
    else:
        length = CONVS_PER_UNIT * MODULES_PER_CONV
        for number, start in enumerate(range(0, len(children), length), start=1):
            of_unit = children[start : start + length]
            yield Unit(part, f"{part}, unit {number}", "plain", of_unit[0], of_unit[-1])
