"""Stage 3: any size -> a multiple of the net's divisor, and back.

A U-Net with skips fails at a size that its divisor does not divide; one without skips silently
returns a smaller mask. With this stage neither can happen.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Pad(nn.Module):
    """Repeat the last row and column until the divisor divides the size.

    ``least`` is the smallest padded side in pixels: twice the divisor where a norm over the
    bottleneck would otherwise meet a single voxel, whose variance is undefined.
    """

    def __init__(self, divisor: int, *, least: int | None = None) -> None:
        super().__init__()
        self.divisor = divisor
        self.least = divisor if least is None else least

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c ph pw"]:
        """Return ``image`` padded at the bottom and at the right."""
        height, width = image.shape[2], image.shape[3]
        padded_height = self._padded(height)
        padded_width = self._padded(width)
        return F.pad(image, (0, padded_width - width, 0, padded_height - height), mode="replicate")

    def _padded(self, side: int) -> int:
        multiple = (side + self.divisor - 1) // self.divisor * self.divisor
        # max() would decide while tracing, for the traced size alone.
        return cast(int, torch.sym_max(multiple, self.least))

    @staticmethod
    def crop(logits: Float[Tensor, "b k ph pw"], size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        """Cut ``logits`` back to ``size``, (H, W) in pixels."""
        return logits[:, :, : size[0], : size[1]]
