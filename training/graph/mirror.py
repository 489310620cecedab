"""Test-time augmentation (optional): the image and its mirror images, and their answers back."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from contract.spec import Mirror

# Axes of [B, C, H, W] that are reversed; each undoes itself.
AXES: dict[Mirror, tuple[int, ...]] = {"horizontal": (3,), "vertical": (2,), "both": (2, 3)}


class MirrorViews(nn.Module):
    """Show the image as it is and mirrored; turn each answer back onto the image.

    Only mirrorings that the net met in training belong here: a net that tells left from right
    answers wrongly for an image whose sides are exchanged.
    """

    def __init__(self, mirrors: Sequence[Mirror]) -> None:
        super().__init__()
        self.mirrors = tuple(mirrors)

    def forward(self, image: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b c h w"]]:
        """Return the image itself, then one view per mirroring."""
        return [image, *(torch.flip(image, AXES[mirror]) for mirror in self.mirrors)]

    def back(self, answer: Float[Tensor, "b k h w"], view: int) -> Float[Tensor, "b k h w"]:
        """Return the answer for view number ``view`` in the image's own frame."""
        return answer if view == 0 else torch.flip(answer, AXES[self.mirrors[view - 1]])
