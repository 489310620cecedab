"""What every net tells of itself, whoever wrote its layers."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from contract.spec import LongSkip


class SegmentationNet(nn.Module, ABC):
    """Float ``[B, C, H, W]`` in, logits ``[B, K, H, W]`` out; H and W multiples of ``divisor``.

    Attributes:
        divisor: the finest grid that the net's downsampling needs, in pixels.
        least_side: smallest H and W that the net takes, in pixels. Twice the divisor where a norm
            over the bottleneck would otherwise meet a single voxel, whose variance is undefined.
        long_skips: the dial as built, one word per level, finest first; empty where the
            architecture has no dial.
        widths: channels per level as built, finest first; empty where they are smp's own.
        tileable: False where one pixel's answer depends on the whole image (norms over the image,
            global pooling, attention over the image), so that tiles would change it.
        export_refusal: why this net may not be exported, or None.
    """

    divisor: int
    least_side: int
    long_skips: tuple[LongSkip, ...]
    widths: tuple[int, ...]
    tileable: bool
    export_refusal: str | None

    @property
    def skip_strides(self) -> tuple[int, ...]:
        """Stride in pixels of each level of ``long_skips``; a net with levels overrides it.

        Such a net's forward also takes ``skip_gain``, a factor per level on what the encoder hands
        to the skip (``training.nets.skips.gained``).
        """
        return ()

    @property
    def exportable(self) -> bool:
        """Whether ``export_refusal`` is None."""
        return self.export_refusal is None

    @abstractmethod
    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Return one logit per class and pixel."""
