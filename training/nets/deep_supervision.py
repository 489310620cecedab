"""Deep supervision (Lee 2015; Dou 2016): coarse levels of the decoder answer, too, while training.

Each level of the decoder but the finest gets a 1×1 head of its own, and its answer is held against
the mask at that level's pixels. Level l weighs 1 / 2^l, all weights together 1 (nnU-Net, Isensee
2021). The heads stand beside the net, not in it: the net and its export stay as they are.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from contract.errors import RequestInvalid
from training.nets.net import SegmentationNet
from training.nets.smp_unet import SmpUNet
from training.nets.unet import UNet

Loss = Callable[[Tensor, Tensor], Tensor]


class DeepSupervision(nn.Module):
    """Heads for the coarse levels of one net's decoder; ``heads`` stand finest first, from 1 on.

    Raises:
        RequestInvalid: the net has no decoder of levels, or only one of them.
    """

    def __init__(self, net: SegmentationNet, *, classes: int, ignore: int) -> None:
        super().__init__()
        self.ignore = ignore
        levels = len(_decoder_blocks(net))
        if levels < 2:
            raise RequestInvalid(
                f"deep supervision needs two levels or more, net.widths {net.widths} make "
                f"{levels}; give more widths, or leave loss.deep_supervision out"
            )
        self.heads = nn.ModuleList(
            nn.Conv2d(width, classes, kernel_size=1) for width in net.widths[1:levels]
        )

    @contextmanager
    def watching(self, net: SegmentationNet) -> Iterator[dict[int, Tensor]]:
        """Give a dict that the next forward of ``net`` fills: level -> the decoder's output."""
        seen: dict[int, Tensor] = {}

        def keeper(level: int) -> Callable[[nn.Module, object, Tensor], None]:
            def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
                seen[level] = output

            return keep

        hooks = [
            block.register_forward_hook(keeper(level))
            for level, block in enumerate(_decoder_blocks(net))
            if level > 0
        ]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def loss(
        self,
        loss: Loss,
        logits: Float[Tensor, "b k h w"],
        mask: Integer[Tensor, "b *k h w"],
        seen: dict[int, Float[Tensor, "b c lh lw"]],
    ) -> Float[Tensor, ""]:
        """Return the weighted mean of the loss over all levels.

        Args:
            loss: takes logits and a mask of their size.
            logits: the net's answer at full size, which is level 0.
            mask: at full size.
            seen: what ``watching`` gave.
        """
        weight = total_weight = 1.0
        total = loss(logits, mask)
        for level, head in enumerate(self.heads, start=1):
            weight /= 2
            answer = head(seen[level])  # [B, K, padded H / 2^l, padded W / 2^l]
            size = (answer.shape[2], answer.shape[3])
            total = total + weight * loss(answer, coarse(mask, 2**level, size, self.ignore))
            total_weight += weight
        return total / total_weight


def coarse(
    mask: Integer[Tensor, "b *k h w"], stride: int, size: tuple[int, int], ignore: int
) -> Integer[Tensor, "b *k lh lw"]:
    """Return every ``stride``-th pixel, from the middle of each square, as ``size`` (H, W).

    What the net's padding added at the bottom and at the right is ignored.
    """
    below = size[0] * stride - mask.shape[-2]
    right = size[1] * stride - mask.shape[-1]
    padded = F.pad(mask, (0, right, 0, below), value=ignore)
    return padded[..., stride // 2 :: stride, stride // 2 :: stride]


def _decoder_blocks(net: SegmentationNet) -> Sequence[nn.Module]:
    """Return the decoder's blocks, finest first; block l answers at 1 / 2^l of the size."""
    if isinstance(net, UNet):
        return list(net.decoder)
    if isinstance(net, SmpUNet):
        return list(net.decoder.blocks)
    raise RequestInvalid(
        f"deep supervision needs a decoder of levels; {type(net).__name__} has none that it knows. "
        "Take net.architecture unet or smp-unet, or leave loss.deep_supervision out"
    )
