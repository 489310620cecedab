"""The stages in order: from raw pixels to labels, in one module that is trained and exported."""

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from contract.spec import Normalising
from training.graph.activate import Activate, Task
from training.graph.normalise import Normalise
from training.graph.pad import Pad
from training.graph.resample import Resample
from training.nets.net import SegmentationNet


class ModelGraph(nn.Module):
    """normalise -> (resample) -> pad -> net -> crop -> (resample back) -> activate.

    ``logits`` is what the loss sees in training, ``forward`` what the file answers; both run the
    same modules, so nothing is done twice or differently.
    """

    def __init__(
        self,
        net: SegmentationNet,
        *,
        normalising: Normalising,
        task: Task,
        working_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(normalising)
        self.resample = None if working_size is None else Resample(working_size)
        self.pad = Pad(net.divisor, least=net.least_side)
        self.net = net
        self.activate = Activate(task)

    def logits(
        self, image: Float[Tensor, "b c h w"], statistics: Float[Tensor, "s c 2"] | None = None
    ) -> Float[Tensor, "b k h w"]:
        """Return the net's logits at the image's own size."""
        size = (image.shape[2], image.shape[3])
        seen = self.normalise(image, statistics)  # [b, c, h, w]
        if self.resample is not None:
            seen = self.resample(seen)  # [b, c, wh, ww]
        worked = (seen.shape[2], seen.shape[3])
        logits = self.pad.crop(self.net(self.pad(seen)), worked)  # [b, k, wh, ww]
        return logits if self.resample is None else self.resample.back(logits, size)

    def forward(
        self, image: Float[Tensor, "b c h w"], statistics: Float[Tensor, "s c 2"] | None = None
    ) -> tuple[UInt8[Tensor, "b *k h w"], Float[Tensor, "b k h w"]]:
        """Return ``labels`` and ``probabilities`` as the contract says."""
        labels, probabilities = self.activate(self.logits(image, statistics))
        return labels, probabilities
