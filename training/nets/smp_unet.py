"""smp's encoders under our skip dial, through smp's own decoder block.

        image ─ stride 1 ─────────────────── block 0 ─ head ─ logits
                stride 2  ────── skip 0 ──── block 1
                stride 4  ────── skip 1 ──── block 2
                stride 8  ──────────┘

A block doubles the size and works at the stride that it stands at; the block at stride 1 has no
skip, as in smp. With ``concat`` everywhere the net is ``smp.Unet`` to the bit.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.unet.decoder import UnetCenterBlock, UnetDecoderBlock
from torch import Tensor, nn

from contract.spec import LongSkip
from training.nets.config import NetConfig
from training.nets.cost import match_parameters, parameter_count
from training.nets.net import SegmentationNet
from training.nets.skips import SKIPS, gained
from training.nets.smp_encoder import build_encoder, is_local


class DialDecoder(nn.Module):
    """Decoder blocks and skips, finest first; ``blocks[0]`` stands at full size.

    smp's block joins its skip inside and knows concatenation only. So the skip stands outside, at
    our dial, and the block is built with ``skip_channels=0`` for whatever width the dial hands on.
    ``encoder_channels`` stand for strides 2, 4, …, one more than there are ``long_skips``.
    """

    def __init__(
        self,
        encoder_channels: tuple[int, ...],
        *,
        widths: tuple[int, ...],
        long_skips: tuple[LongSkip, ...],
        center: bool,
    ) -> None:
        super().__init__()
        inputs = (*widths[1:], encoder_channels[-1])
        self.center = UnetCenterBlock(inputs[-1], inputs[-1]) if center else nn.Identity()
        skips = [
            SKIPS[kind](below, across)
            for kind, below, across in zip(
                long_skips, inputs[1:], encoder_channels[:-1], strict=True
            )
        ]
        self.skips = nn.ModuleList(skips)
        joined = (inputs[0], *(skip.out_channels for skip in skips))
        self.blocks = nn.ModuleList(
            _convolutions(UnetDecoderBlock(in_channels, 0, width))
            for in_channels, width in zip(joined, widths, strict=True)
        )
        initialize_decoder(self)

    def forward(
        self,
        features: list[Float[Tensor, "b _c _h _w"]],
        skip_gain: Float[Tensor, "g l"] | None = None,
    ) -> Float[Tensor, "b o h w"]:
        """Return the finest block's output; ``features`` stand at strides 2, 4 and so on."""
        x = self.center(features[-1])
        for index in reversed(range(len(self.blocks))):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")  # stride 2^index
            if index > 0:
                level = index - 1
                x = self.skips[level](x, gained(features[level], skip_gain, level))
            x = self.blocks[index](x)  # [B, widths[index], H / 2^index, W / 2^index]
        finest: Tensor = x
        return finest


def _convolutions(block: nn.Module) -> nn.Sequential:
    # The block's own forward would resample once more, to the size that its input has already.
    return nn.Sequential(block.get_submodule("conv1"), block.get_submodule("conv2"))


class SmpUNet(SegmentationNet):
    """An smp encoder, a ``DialDecoder`` and smp's 3×3 head; ``skips`` stand finest first.

    An encoder that begins at stride 4 (ConvNeXt, Swin, MiT) has nothing to hand over at stride 2:
    ``long_skips`` then says ``none`` at the finest level.
    """

    def __init__(self, config: NetConfig, *, channels: int, classes: int) -> None:
        super().__init__()
        depth = len(config.widths)
        self.encoder = build_encoder(config, channels=channels, depth=depth)
        across = _encoder_channels(self.encoder)
        self.long_skips = _skips_that_exist(config, across)
        self.widths = _widths(config, across, self.long_skips, classes=classes)
        self.divisor = 2**depth
        self.least_side = self.divisor
        self.tileable = is_local(config.encoder)
        self.export_refusal = None
        self.decoder = _decoder(config, across, self.widths, self.long_skips)
        self.head = SegmentationHead(self.widths[0], classes)
        initialize_head(self.head)

    @property
    def skips(self) -> nn.ModuleList:
        """One ``LongSkipModule`` per level, finest first, the finest at stride 2."""
        return self.decoder.skips

    @property
    def skip_strides(self) -> tuple[int, ...]:
        """2, 4, 8, …: the block at full size has no skip."""
        return tuple(2 ** (level + 1) for level in range(len(self.long_skips)))

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
        features = self.encoder(image)  # at strides 1 (the image itself), 2, 4, …, divisor
        logits: Tensor = self.head(self.decoder(features[1:], skip_gain))  # [B, K, H, W]
        return logits


def _encoder_channels(encoder: nn.Module) -> tuple[int, ...]:
    """Return the widths of the features at strides 2, 4, …; 0 where there are none."""
    out_channels = cast("list[int]", encoder.out_channels)  # an attribute smp adds to nn.Module
    return tuple(out_channels[1:])


def _skips_that_exist(config: NetConfig, across: tuple[int, ...]) -> tuple[LongSkip, ...]:
    for level, (kind, channels) in enumerate(zip(config.skips_by_level, across, strict=False)):
        # One word for all levels means all that there are; a word for this very level is an error.
        asked_for = not isinstance(config.long_skips, str) or "," in config.long_skips
        if channels == 0 and kind != "none" and asked_for:
            raise ValueError(
                f"encoder {config.encoder!r} has no features at stride {2 ** (level + 1)}; set "
                f"level {level} of long_skips to none, got {kind!r}"
            )
    return tuple(
        kind if channels else "none"
        for kind, channels in zip(config.skips_by_level, across, strict=False)
    )


def _decoder(
    config: NetConfig,
    across: tuple[int, ...],
    widths: tuple[int, ...],
    long_skips: tuple[LongSkip, ...],
) -> DialDecoder:
    # smp gives VGG, which has no stem, a block at the centre.
    center = config.encoder.startswith("vgg")
    return DialDecoder(across, widths=widths, long_skips=long_skips, center=center)


def _widths(
    config: NetConfig, across: tuple[int, ...], long_skips: tuple[LongSkip, ...], *, classes: int
) -> tuple[int, ...]:
    if config.match == "width":
        return config.widths

    def count(widths: tuple[int, ...], long_skips: tuple[LongSkip, ...]) -> int:
        with torch.device("meta"):  # shapes only: nothing is allocated or drawn
            decoder = _decoder(config, across, widths, long_skips)
            return parameter_count(decoder) + parameter_count(SegmentationHead(widths[0], classes))

    concat: tuple[LongSkip, ...] = tuple("concat" if channels else "none" for channels in across)
    return match_parameters(
        config.widths,
        count=lambda widths: count(widths, long_skips),
        target=count(config.widths, concat[:-1]),
    )
