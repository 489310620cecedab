"""The dial: how an encoder's features cross to the decoder of the same level.

Each position is a small module with the same call: ``skip(decoder, encoder)`` at one resolution,
and ``out_channels`` for whatever comes next. A net holds one per level in a ModuleList, finest
first, so a level can be exchanged, wrapped or removed alone. How much of ``encoder`` there is to
join is the caller's matter: ``gained``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from contract.spec import LongSkip


class LongSkipModule(nn.Module, ABC):
    """A position of the dial; ``out_channels`` is the width that it hands to the decoder."""

    out_channels: int

    @abstractmethod
    def forward(
        self, decoder: Float[Tensor, "b cd h w"], encoder: Float[Tensor, "b ce h w"]
    ) -> Float[Tensor, "b co h w"]:
        """Join ``decoder``, upsampled to this level, and ``encoder``, this level's features."""


class Concat(LongSkipModule):
    """Stack both along the channels (Ronneberger 2015)."""

    def __init__(self, decoder_channels: int, encoder_channels: int) -> None:
        super().__init__()
        self.out_channels = decoder_channels + encoder_channels

    def forward(
        self, decoder: Float[Tensor, "b cd h w"], encoder: Float[Tensor, "b ce h w"]
    ) -> Float[Tensor, "b co h w"]:
        """Return decoder channels first, encoder channels after."""
        return torch.cat((decoder, encoder), dim=1)  # [B, Cd + Ce, H, W]


class Add(LongSkipModule):
    """Sum both; a 1×1 convolution brings the encoder's width to the decoder's where they differ."""

    def __init__(self, decoder_channels: int, encoder_channels: int) -> None:
        super().__init__()
        self.out_channels = decoder_channels
        self.project: nn.Module = (
            nn.Identity()
            if encoder_channels == decoder_channels
            else nn.Conv2d(encoder_channels, decoder_channels, kernel_size=1)
        )

    def forward(
        self, decoder: Float[Tensor, "b cd h w"], encoder: Float[Tensor, "b ce h w"]
    ) -> Float[Tensor, "b cd h w"]:
        """Return the sum."""
        projected: Tensor = self.project(encoder)
        return decoder + projected  # [B, Cd, H, W]


class AttentionGate(LongSkipModule):
    """Additive attention gate, then concatenation (Oktay 2018, eq. 1 and 2).

    alpha = sigmoid(psi(relu(W_x encoder + W_g decoder))), one number per pixel. The gating signal
    is the decoder already upsampled to this level, so nothing has to be resampled.
    """

    def __init__(self, decoder_channels: int, encoder_channels: int) -> None:
        super().__init__()
        self.out_channels = decoder_channels + encoder_channels
        inner = max(1, encoder_channels // 2)
        self.gate = nn.Conv2d(decoder_channels, inner, kernel_size=1)
        self.features = nn.Conv2d(encoder_channels, inner, kernel_size=1, bias=False)
        self.psi = nn.Conv2d(inner, 1, kernel_size=1)

    def forward(
        self, decoder: Float[Tensor, "b cd h w"], encoder: Float[Tensor, "b ce h w"]
    ) -> Float[Tensor, "b co h w"]:
        """Return decoder channels first, the gated encoder channels after."""
        query = torch.relu(self.gate(decoder) + self.features(encoder))  # [B, Ce/2, H, W]
        alpha = torch.sigmoid(self.psi(query))  # [B, 1, H, W]
        return torch.cat((decoder, encoder * alpha), dim=1)  # [B, Cd + Ce, H, W]


class NoSkip(LongSkipModule):
    """Leave the encoder's features where they are: only the bottleneck carries the image."""

    def __init__(self, decoder_channels: int, encoder_channels: int) -> None:
        super().__init__()
        self.out_channels = decoder_channels

    def forward(
        self, decoder: Float[Tensor, "b cd h w"], encoder: Float[Tensor, "b ce h w"]
    ) -> Float[Tensor, "b cd h w"]:
        """Return ``decoder`` as it is."""
        return decoder


def gained(
    encoder: Float[Tensor, "b ce h w"], skip_gain: Float[Tensor, "g l"] | None, level: int
) -> Float[Tensor, "b ce h w"]:
    """Return the encoder's features times the gain of ``level``; as they are where it is None.

    Args:
        encoder: the features of one level, before any skip joins them.
        skip_gain: a factor per level, finest first, for all images (g = 1) or each (g = b).
        level: 0 is the finest.
    """
    if skip_gain is None:
        return encoder
    return encoder * skip_gain[:, level : level + 1, None, None]


SKIPS: dict[LongSkip, Callable[[int, int], LongSkipModule]] = {
    "concat": Concat,
    "add": Add,
    "attention": AttentionGate,
    "none": NoSkip,
}
