"""Our own U-Net: one body, and a skip dial per level.

        image ─ block 0 ──────── skip 0 ─────── block 0 ─ head ─ logits     H × W
                  ↓ pool                          ↑ up
                block 1 ──────── skip 1 ─────── block 1                    H/2 × W/2
                  ↓ pool                          ↑ up
                  └───────── bottleneck ──────────┘                        H/4 × W/4

Level 0 is the finest. Every list below stands in that order.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from training.nets.blocks import LARGEST_GROUP_COUNT, build_block
from training.nets.config import NetConfig
from training.nets.cost import match_parameters, parameter_count
from training.nets.initialise import initialise
from training.nets.net import SegmentationNet
from training.nets.skips import SKIPS, gained

# Norms whose statistics run over the whole image.
GLOBAL_NORMS = ("instance", "group")


class Up(nn.Module):
    """Double the size and bring the width to the next finer level's.

    The 1×1 convolution stands before the nearest-neighbour resampling: both orders give the same
    numbers, and this one works on a quarter of the pixels. On onnxruntime's CPU provider a whole
    net at 256² took 84 ms this way, 86 with bilinear, 92 with the convolution after it or with a
    2×2 transposed convolution, 117 with a 3×3 one after it (widths 32, 64, 128, 256, 1 thread);
    training steps ranked the same. Nearest also has a deterministic backward on CUDA, which
    bilinear has not, and stays in integers when the model is quantised.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(in_channels, width, kernel_size=1)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o 2*h 2*w"]:
        """Return ``x`` at twice the size with ``width`` channels."""
        return F.interpolate(self.narrow(x), scale_factor=2.0, mode="nearest")


class UNet(SegmentationNet):
    """U-Net with one ``LongSkipModule`` per level in ``skips``, finest first."""

    def __init__(self, config: NetConfig, *, channels: int, classes: int) -> None:
        super().__init__()
        widths = config.widths
        self.divisor = 2**config.levels
        self.long_skips = config.skips_by_level
        self.widths = widths
        self.tileable = config.norm not in GLOBAL_NORMS
        self.least_side = self.divisor if self.tileable else 2 * self.divisor
        self.export_refusal = None

        inputs = (channels, *widths[:-1])
        self.encoder = nn.ModuleList(
            build_block(inputs[level], widths[level], config) for level in range(config.levels)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = build_block(inputs[-1], widths[-1], config)
        self.ups = nn.ModuleList(
            Up(widths[level + 1], widths[level]) for level in range(config.levels)
        )
        skips = [
            SKIPS[kind](width, width) for kind, width in zip(self.long_skips, widths, strict=False)
        ]
        self.skips = nn.ModuleList(skips)
        self.decoder = nn.ModuleList(
            build_block(skip.out_channels, width, config)
            for skip, width in zip(skips, widths, strict=False)
        )
        self.head = nn.Conv2d(widths[0], classes, kernel_size=1)
        initialise(self, config)

    @property
    def skip_strides(self) -> tuple[int, ...]:
        """1, 2, 4, …: level 0 stands at full size."""
        return tuple(2**level for level in range(len(self.long_skips)))

    def forward(
        self,
        image: Float[Tensor, "b c h w"],
        skip_gain: Float[Tensor, "g l"] | None = None,
    ) -> Float[Tensor, "b k h w"]:
        """Return logits; H and W must be multiples of ``divisor``.

        Args:
            image: what stands before the net has normalised.
            skip_gain: see ``training.nets.skips.gained``.
        """
        x = image
        features: list[Tensor] = []
        for block in self.encoder:
            x = block(x)  # [B, widths[l], H / 2^l, W / 2^l]
            features.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)  # [B, widths[-1], H / divisor, W / divisor]
        for level in reversed(range(len(features))):
            x = self.ups[level](x)  # [B, widths[l], H / 2^l, W / 2^l]
            x = self.skips[level](x, gained(features[level], skip_gain, level))
            x = self.decoder[level](x)
        logits: Tensor = self.head(x)  # [B, K, H, W]
        return logits


def build_unet(config: NetConfig, *, channels: int, classes: int) -> UNet:
    """Return the U-Net of ``config``, its widths matched first where ``config.match`` says so."""
    if config.match == "parameters":

        def count(widths: tuple[int, ...], long_skips: str | tuple[str, ...]) -> int:
            candidate = replace(config, widths=widths, long_skips=long_skips)
            with torch.device("meta"):  # shapes only: nothing is allocated or drawn
                return parameter_count(UNet(candidate, channels=channels, classes=classes))

        widths = match_parameters(
            config.widths,
            count=lambda widths: count(widths, config.long_skips),
            target=count(config.widths, "concat"),
            multiple_of=math.gcd(*config.widths, LARGEST_GROUP_COUNT)
            if config.norm == "group"
            else 1,
        )
        config = replace(config, widths=widths, match="width")
    return UNet(config, channels=channels, classes=classes)
