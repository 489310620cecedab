"""Blocks: the convolutions of one level, with or without short skips."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.nets.config import Activation, Block, NetConfig, Norm

LARGEST_GROUP_COUNT = 8
LEAKY_SLOPE = 0.01


def _group_norm(channels: int) -> nn.Module:
    # Widths are free, so the group count is the largest power of two up to 8 that divides them.
    return nn.GroupNorm(math.gcd(channels, LARGEST_GROUP_COUNT), channels)


NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "group": _group_norm,
    "none": lambda channels: nn.Identity(),
}

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky": lambda: nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def _conv_norm(
    in_channels: int, out_channels: int, config: NetConfig, *, kernel: int
) -> list[nn.Module]:
    # The norm's own shift makes a bias before it redundant.
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, padding=kernel // 2, bias=config.norm == "none"
    )
    return [conv, NORMS[config.norm](out_channels)]


def _conv_norm_act(in_channels: int, out_channels: int, config: NetConfig) -> list[nn.Module]:
    return [
        *_conv_norm(in_channels, out_channels, config, kernel=3),
        ACTIVATIONS[config.activation](),
    ]


def plain(in_channels: int, width: int, config: NetConfig) -> nn.Module:
    """Return ``convs_per_block`` times convolution, norm, activation: no short skips."""
    layers: list[nn.Module] = []
    for index in range(config.convs_per_block):
        layers += _conv_norm_act(in_channels if index == 0 else width, width, config)
    return nn.Sequential(*layers)


class ResidualUnit(nn.Module):
    """activation(shortcut(x) + body(x)), He 2015 fig. 2; the body ends in a norm.

    The shortcut is the identity, or a 1×1 convolution with norm where the width changes.
    """

    def __init__(self, in_channels: int, width: int, config: NetConfig, *, convs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(convs - 1):
            layers += _conv_norm_act(in_channels if index == 0 else width, width, config)
        layers += _conv_norm(in_channels if convs == 1 else width, width, config, kernel=3)
        self.body = nn.Sequential(*layers)
        self.shortcut: nn.Module = (
            nn.Identity()
            if in_channels == width
            else nn.Sequential(*_conv_norm(in_channels, width, config, kernel=1))
        )
        self.activation = ACTIVATIONS[config.activation]()

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """Return the sum of both ways, activated."""
        summed: Tensor = self.shortcut(x) + self.body(x)  # [B, width, H, W]
        activated: Tensor = self.activation(summed)
        return activated


def residual(in_channels: int, width: int, config: NetConfig) -> nn.Module:
    """Return residual units of two convolutions each; an odd one out stands last, alone."""
    units: list[nn.Module] = []
    for start in range(0, config.convs_per_block, 2):
        convs = min(2, config.convs_per_block - start)
        units.append(ResidualUnit(in_channels if start == 0 else width, width, config, convs=convs))
    return nn.Sequential(*units)


class DenseBody(nn.Module):
    """Each convolution sees all that came before it in the block (Huang 2017).

    Each adds ``width / convs_per_block`` channels, rounded up; a 1×1 convolution brings the whole
    stack, input included, to ``width``.
    """

    def __init__(self, in_channels: int, width: int, config: NetConfig) -> None:
        super().__init__()
        growth = math.ceil(width / config.convs_per_block)
        self.convs = nn.ModuleList(
            nn.Sequential(*_conv_norm_act(in_channels + index * growth, growth, config))
            for index in range(config.convs_per_block)
        )
        stacked = in_channels + config.convs_per_block * growth
        self.join = nn.Sequential(
            *_conv_norm(stacked, width, config, kernel=1), ACTIVATIONS[config.activation]()
        )

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """Return the stack of the input and all convolutions, joined to ``width``."""
        for conv in self.convs:
            x = torch.cat((x, conv(x)), dim=1)  # [B, in + (index + 1) * growth, H, W]
        joined: Tensor = self.join(x)  # [B, width, H, W]
        return joined


BLOCKS: dict[Block, Callable[[int, int, NetConfig], nn.Module]] = {
    "plain": plain,
    "residual": residual,
    "dense": DenseBody,
}


def build_block(in_channels: int, width: int, config: NetConfig) -> nn.Module:
    """Return the block that ``config`` names, ``in_channels`` to ``width``, with its dropout."""
    block = BLOCKS[config.block](in_channels, width, config)
    return nn.Sequential(block, nn.Dropout2d(config.dropout)) if config.dropout else block
